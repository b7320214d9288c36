/* 4 codes a byte, the first in the lowest bits. */
static inline int load_u2(const void *values, ptrdiff_t index)
{
    return (((const uint8_t *)values)[index >> 2] >> ((index & 3) * 2)) & 3;
}

/* 2 codes a byte, the first in the lower half. */
static inline int load_u4(const void *values, ptrdiff_t index)
{
    return (((const uint8_t *)values)[index >> 1] >> ((index & 1) * 4)) & 15;
}

/* 4 codes a byte, the first in the lowest bits; two's complement. */
static inline int load_s2(const void *values, ptrdiff_t index)
{
    const int code = (((const uint8_t *)values)[index >> 2] >> ((index & 3) * 2)) & 3;
    return (code ^ 2) - 2;
}

/* 2 codes a byte, the first in the lower half; two's complement. */
static inline int load_s4(const void *values, ptrdiff_t index)
{
    const int code = (((const uint8_t *)values)[index >> 1] >> ((index & 1) * 4)) & 15;
    return (code ^ 8) - 8;
}

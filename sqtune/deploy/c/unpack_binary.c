/* 8 codes a byte, the first in the lowest bit: -1, 1. */
static void unpack_binary(const uint8_t *codes, size_t total, size_t first, size_t count,
                          int8_t *levels)
{
    size_t i;
    (void)total;
    for (i = first; i < first + count; i++) {
        *levels++ = (int8_t)(((codes[i >> 3] >> (i & 7)) & 1) * 2 - 1);
    }
}

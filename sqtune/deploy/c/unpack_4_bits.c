/* 2 codes a byte, the first in the lower half: -7 to 7. */
static void unpack_4_bits(const uint8_t *codes, size_t total, size_t first, size_t count,
                          int8_t *levels)
{
    size_t i;
    (void)total;
    for (i = first; i < first + count; i++) {
        *levels++ = (int8_t)(((codes[i >> 1] >> ((i & 1) * 4)) & 15) - 8);
    }
}

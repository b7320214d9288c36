/* 4 codes a byte, the first in the lowest bits: -3, -1, 1, 3 (in halves of a step). */
static void unpack_2_bits(const uint8_t *codes, size_t total, size_t first, size_t count,
                          int8_t *levels)
{
    size_t i;
    (void)total;
    for (i = first; i < first + count; i++) {
        *levels++ = (int8_t)(((codes[i >> 2] >> ((i & 3) * 2)) & 3) * 2 - 3);
    }
}

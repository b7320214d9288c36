/* BITS bit planes one after the other, each with 8 codes a byte: -TOP to TOP. */
static void unpack_BITS_planes(const uint8_t *codes, size_t total, size_t first, size_t count,
                               int8_t *levels)
{
    const size_t plane = (total + 7) / 8;
    size_t i;
    for (i = first; i < first + count; i++) {
        const uint8_t *code = codes + (i >> 3);
        int bit, digit = 0;
        for (bit = 0; bit < BITS; bit++) {
            digit += ((code[(size_t)bit * plane] >> (i & 7)) & 1) << bit;
        }
        *levels++ = (int8_t)(digit - TOP - 1);
    }
}

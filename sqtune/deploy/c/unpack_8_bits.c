/* A code a byte: -127 to 127. */
static void unpack_8_bits(const uint8_t *codes, size_t total, size_t first, size_t count,
                          int8_t *levels)
{
    size_t i;
    (void)total;
    for (i = first; i < first + count; i++) {
        *levels++ = (int8_t)(codes[i] - 128);
    }
}

/* 5 codes a byte, the first in the lowest digit of base 3: -1, 0, 1. */
static void unpack_ternary(const uint8_t *codes, size_t total, size_t first, size_t count,
                           int8_t *levels)
{
    const uint8_t *code = codes + first / 5;
    size_t digit = first % 5;
    (void)total;
    while (count-- > 0) {
        *levels++ = c_ternary_digits[*code * 5 + digit];
        if (++digit == 5) {
            digit = 0;
            code++;
        }
    }
}

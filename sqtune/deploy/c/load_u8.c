static inline int load_u8(const void *values, ptrdiff_t index)
{
    return ((const uint8_t *)values)[index];
}

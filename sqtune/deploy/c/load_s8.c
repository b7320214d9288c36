static inline int load_s8(const void *values, ptrdiff_t index)
{
    return ((const int8_t *)values)[index];
}

static inline float load_f32(const void *values, ptrdiff_t index)
{
    return ((const float *)values)[index];
}

static inline void store_32(void *values, size_t index, float value)
{
    ((float *)values)[index] = value;
}

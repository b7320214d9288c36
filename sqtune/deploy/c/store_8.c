static inline void store_8(void *values, size_t index, int code)
{
    ((uint8_t *)values)[index] = (uint8_t)code;
}

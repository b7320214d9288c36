static inline void store_2(void *values, size_t index, int code)
{
    uint8_t *byte = (uint8_t *)values + (index >> 2);
    const int shift = (int)(index & 3) * 2;
    *byte = (uint8_t)((*byte & ~(3 << shift)) | ((code & 3) << shift));
}

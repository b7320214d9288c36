static inline void store_4(void *values, size_t index, int code)
{
    uint8_t *byte = (uint8_t *)values + (index >> 1);
    const int shift = (int)(index & 1) * 4;
    *byte = (uint8_t)((*byte & ~(15 << shift)) | ((code & 15) << shift));
}

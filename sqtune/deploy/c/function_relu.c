static inline float function_relu(float x)
{
    return x > 0.0f ? x : 0.0f;
}

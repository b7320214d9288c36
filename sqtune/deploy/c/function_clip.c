static inline float function_clip(float x, float low, float top)
{
    return x < low ? low : x > top ? top : x;
}

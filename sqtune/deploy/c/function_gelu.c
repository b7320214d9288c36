static float function_gelu(float x)
{
    return 0.5f * x * (1.0f + erff(x * 0.70710678f));
}

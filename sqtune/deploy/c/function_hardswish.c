static float function_hardswish(float x)
{
    const float shifted = x + 3.0f;
    return x * (shifted < 0.0f ? 0.0f : shifted > 6.0f ? 6.0f : shifted) / 6.0f;
}

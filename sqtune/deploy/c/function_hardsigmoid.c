static float function_hardsigmoid(float x)
{
    const float shifted = x + 3.0f;
    return (shifted < 0.0f ? 0.0f : shifted > 6.0f ? 6.0f : shifted) / 6.0f;
}

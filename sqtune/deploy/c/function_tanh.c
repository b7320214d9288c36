static float function_tanh(float x)
{
    return tanhf(x);
}

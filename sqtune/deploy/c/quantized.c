/* The code of a value: rounded, half to even, and clipped to the ends of its grid. */
static int quantized(float value, float step, int low, int top)
{
    const float scaled = value / step;
    int code;
    float rest;
    if (!(scaled > (float)low)) {
        return low;
    }
    if (scaled >= (float)top) {
        return top;
    }
    code = (int)scaled;
    rest = scaled - (float)code;
    if (rest > 0.5f || (rest == 0.5f && (code & 1))) {
        code++;
    } else if (rest < -0.5f || (rest == -0.5f && (code & 1))) {
        code--;
    }
    return code;
}

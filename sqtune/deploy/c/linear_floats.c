/* A linear layer with float weights; `step` is what an element of the input counts. */
static void linear_floats_INPUT(size_t inputs, size_t outputs, size_t places,
                                const float *weights, const float *biases, const void *input,
                                size_t first, float step, Finish *finish)
{
    size_t place, output, i, index = 0;
    for (place = 0; place < places; place++) {
        for (output = 0; output < outputs; output++) {
            float sum = 0;
            for (i = 0; i < inputs; i++) {
                sum += weights[output * inputs + i]
                       * (float)load_INPUT(input, (ptrdiff_t)(first + place * inputs + i));
            }
            finish(sum * step + biases[output], index++);
        }
    }
}

/* A linear layer whose weights are packed: each is used once, so a few are unpacked at a time. */
static void linear_levels_INPUT(size_t inputs, size_t outputs, size_t places, Unpack *unpack,
                                const uint8_t *codes, const float *scales, const float *biases,
                                const void *input, size_t first, Finish *finish)
{
    int8_t levels[40];
    size_t place, output, index = 0;
    for (place = 0; place < places; place++) {
        for (output = 0; output < outputs; output++) {
            size_t done = 0;
            SUM sum = 0;
            while (done < inputs) {
                const size_t count = inputs - done < sizeof levels ? inputs - done : sizeof levels;
                size_t i;
                unpack(codes, inputs * outputs, output * inputs + done, count, levels);
                for (i = 0; i < count; i++) {
                    sum += (SUM)levels[i]
                           * (SUM)load_INPUT(input,
                                             (ptrdiff_t)(first + place * inputs + done + i));
                }
                done += count;
            }
            finish((float)sum * scales[output] + biases[output], index++);
        }
    }
}

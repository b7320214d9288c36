/* The mean of each channel; `step` is what an element counts. */
static void mean_INPUT(size_t channels, size_t count, const void *input, size_t first, float step,
                       Finish *finish)
{
    size_t channel, i;
    for (channel = 0; channel < channels; channel++) {
        float sum = 0;
        for (i = 0; i < count; i++) {
            sum += (float)load_INPUT(input, (ptrdiff_t)(first + channel * count + i));
        }
        finish(sum * step / (float)count, channel);
    }
}

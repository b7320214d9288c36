/* A convolution with float weights; `step` is what an element of the input counts. */
static void convolve_floats_INPUT(const Convolution *conv, const float *weights,
                                  const float *biases, const void *input, size_t first, float step,
                                  Finish *finish)
{
    const size_t channels = (size_t)conv->channels / conv->groups;
    const size_t count = channels * conv->kernel_height * conv->kernel_width;
    const size_t per_group = (size_t)conv->out_channels / conv->groups;
    size_t channel;
    for (channel = 0; channel < conv->out_channels; channel++) {
        const size_t from = channel / per_group * channels * conv->height * conv->width;
        convolve_channel_floats_INPUT(conv, weights + channel * count, input, first + from, step,
                                      biases[channel],
                                      channel * conv->out_height * conv->out_width, finish);
    }
}

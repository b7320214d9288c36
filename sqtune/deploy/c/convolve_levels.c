/* A convolution whose weights are packed: those of a channel are unpacked once. */
static void convolve_levels_INPUT(const Convolution *conv, Unpack *unpack, const uint8_t *codes,
                                  const float *scales, const float *biases, const void *input,
                                  size_t first, Finish *finish)
{
    const size_t channels = (size_t)conv->channels / conv->groups;
    const size_t count = channels * conv->kernel_height * conv->kernel_width;
    const size_t per_group = (size_t)conv->out_channels / conv->groups;
    size_t channel;
    for (channel = 0; channel < conv->out_channels; channel++) {
        const size_t from = channel / per_group * channels * conv->height * conv->width;
        unpack(codes, conv->out_channels * count, channel * count, count, unpacked);
        convolve_channel_levels_INPUT(conv, unpacked, input, first + from, scales[channel],
                                      biases[channel],
                                      channel * conv->out_height * conv->out_width, finish);
    }
}

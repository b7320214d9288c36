/* One output channel of a convolution. What lies outside of the image counts as 0. */
static void convolve_channel_KIND_INPUT(const Convolution *conv, const WEIGHT *weights,
                                        const void *input, size_t first, float scale, float bias,
                                        size_t index, Finish *finish)
{
    const int channels = conv->channels / conv->groups;
    const int height = conv->height, width = conv->width;
    const int kernel_height = conv->kernel_height, kernel_width = conv->kernel_width;
    const int down = conv->dilation_height, right = conv->dilation_width;
    int y, x;
    for (y = 0; y < conv->out_height; y++) {
        const int top = y * conv->stride_height - conv->top;
        int row_0 = 0, row_1 = kernel_height;
        while (row_0 < row_1 && top + row_0 * down < 0) {
            row_0++;
        }
        while (row_1 > row_0 && top + (row_1 - 1) * down >= height) {
            row_1--;
        }
        for (x = 0; x < conv->out_width; x++) {
            const int left = x * conv->stride_width - conv->left;
            int column_0 = 0, column_1 = kernel_width, channel, row, column;
            SUM sum = 0;
            while (column_0 < column_1 && left + column_0 * right < 0) {
                column_0++;
            }
            while (column_1 > column_0 && left + (column_1 - 1) * right >= width) {
                column_1--;
            }
            for (channel = 0; channel < channels; channel++) {
                for (row = row_0; row < row_1; row++) {
                    const WEIGHT *weight = weights + (channel * kernel_height + row) * kernel_width;
                    const ptrdiff_t at =
                        (ptrdiff_t)first
                        + ((ptrdiff_t)channel * height + top + row * down) * width + left;
                    for (column = column_0; column < column_1; column++) {
                        sum += (SUM)weight[column] * (SUM)load_INPUT(input, at + column * right);
                    }
                }
            }
            finish((float)sum * scale + bias, index++);
        }
    }
}

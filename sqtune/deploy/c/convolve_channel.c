/* One output channel of a convolution. What lies outside of the image counts as 0. */
static void convolve_channel_KIND_INPUT(const Convolution *conv, const WEIGHT *weights,
                                        const void *input, size_t first, float scale, float bias,
                                        size_t index, Finish *finish)
{
    const int height = conv->height, width = conv->width, stride = conv->stride_width;
    const int kernel_height = conv->kernel_height, kernel_width = conv->kernel_width;
    const int down = conv->dilation_height, right = conv->dilation_width;
    const int reach = 3 * stride + (kernel_width - 1) * right; /* of four neighbours */
    const int by_threes = kernel_width == 3 && stride == 1 && right == 1;
    Window window;
    int y, x;
    window.channels = conv->channels / conv->groups;
    window.kernel_width = kernel_width;
    window.stride = stride;
    window.right = right;
    window.next_line = (ptrdiff_t)down * width;
    window.next_channel = (ptrdiff_t)height * width;
    window.next_weights = (ptrdiff_t)kernel_height * kernel_width;
    for (y = 0; y < conv->out_height; y++) {
        const int top = y * conv->stride_height - conv->top;
        int row_0 = 0, row_1 = kernel_height;
        while (row_0 < row_1 && top + row_0 * down < 0) {
            row_0++;
        }
        while (row_1 > row_0 && top + (row_1 - 1) * down >= height) {
            row_1--;
        }
        window.rows = row_1 - row_0;
        for (x = 0; x < conv->out_width; x++) {
            const int left = x * stride - conv->left;
            const ptrdiff_t line = (ptrdiff_t)first + ((ptrdiff_t)top + row_0 * down) * width;
            const WEIGHT *from = weights + row_0 * kernel_width;
            const int four = x + 4 <= conv->out_width;
            SUM sums[4];
            if (four && by_threes && left >= -1 && left + 5 <= width) {
                window.has_first = left >= 0;
                window.has_last = left + 5 < width;
                windows_3_KIND_INPUT(&window, from, input, line + left, sums);
            } else if (four && left >= 0 && left + reach < width) {
                window.columns = kernel_width;
                windows_KIND_INPUT(&window, from, input, line + left, sums);
            } else {
                int column_0 = 0, column_1 = kernel_width;
                while (column_0 < column_1 && left + column_0 * right < 0) {
                    column_0++;
                }
                while (column_1 > column_0 && left + (column_1 - 1) * right >= width) {
                    column_1--;
                }
                window.columns = column_1 - column_0;
                sums[0] = window_KIND_INPUT(&window, from + column_0, input,
                                            line + left + column_0 * right);
                finish((float)sums[0] * scale + bias, index++);
                continue;
            }
            finish((float)sums[0] * scale + bias, index++);
            finish((float)sums[1] * scale + bias, index++);
            finish((float)sums[2] * scale + bias, index++);
            finish((float)sums[3] * scale + bias, index++);
            x += 3;
        }
    }
}

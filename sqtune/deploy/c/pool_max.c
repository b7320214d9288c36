/* The maximum over windows; `step` is what an element counts. What is outside does not count. */
static void pool_max_INPUT(int channels, int height, int width, int out_height, int out_width,
                           int kernel_height, int kernel_width, int stride_height,
                           int stride_width, int top, int left, const void *input, size_t first,
                           float step, Finish *finish)
{
    int channel, y, x, row, column;
    size_t index = 0;
    for (channel = 0; channel < channels; channel++) {
        for (y = 0; y < out_height; y++) {
            for (x = 0; x < out_width; x++) {
                int found = 0;
                float largest = 0;
                for (row = y * stride_height - top;
                     row < y * stride_height - top + kernel_height; row++) {
                    for (column = x * stride_width - left;
                         column < x * stride_width - left + kernel_width; column++) {
                        if (row >= 0 && row < height && column >= 0 && column < width) {
                            const ptrdiff_t at = ((ptrdiff_t)channel * height + row) * width + column;
                            const float value = (float)load_INPUT(input, (ptrdiff_t)first + at);
                            if (!found || value > largest) {
                                largest = value;
                                found = 1;
                            }
                        }
                    }
                }
                finish(largest * step, index++);
            }
        }
    }
}

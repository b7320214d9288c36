/* Four neighbouring results, for kernels of any width: a weight is loaded once for all of them. */
static void windows_KIND_INPUT(const Window *window, const WEIGHT *weights, const void *input,
                               ptrdiff_t corner, SUM *sums)
{
    const ptrdiff_t stride = window->stride, right = window->right;
    const int columns = window->columns;
    SUM sum_0 = 0, sum_1 = 0, sum_2 = 0, sum_3 = 0;
    int channel, row, column;
    for (channel = window->channels; channel > 0; channel--) {
        const WEIGHT *weight = weights;
        ptrdiff_t line = corner;
        for (row = window->rows; row > 0; row--) {
            ptrdiff_t at = line;
            for (column = columns; column > 0; column--) {
                const SUM factor = (SUM)*weight++;
                sum_0 += factor * (SUM)load_INPUT(input, at);
                sum_1 += factor * (SUM)load_INPUT(input, at + stride);
                sum_2 += factor * (SUM)load_INPUT(input, at + 2 * stride);
                sum_3 += factor * (SUM)load_INPUT(input, at + 3 * stride);
                at += right;
            }
            line += window->next_line;
        }
        weights += window->next_weights;
        corner += window->next_channel;
    }
    sums[0] = sum_0;
    sums[1] = sum_1;
    sums[2] = sum_2;
    sums[3] = sum_3;
}

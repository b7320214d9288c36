/* Four neighbouring results of a kernel of width 3 without stride and dilation: weights and inputs
   are loaded once. The first and the last column that they reach may lie outside of the image. */
static void windows_3_KIND_INPUT(const Window *window, const WEIGHT *weights, const void *input,
                                 ptrdiff_t corner, SUM *sums)
{
    const int has_first = window->has_first, has_last = window->has_last;
    SUM sum_0 = 0, sum_1 = 0, sum_2 = 0, sum_3 = 0;
    int channel, row;
    for (channel = window->channels; channel > 0; channel--) {
        const WEIGHT *weight = weights;
        ptrdiff_t at = corner;
        for (row = window->rows; row > 0; row--) {
            const SUM left = (SUM)weight[0], middle = (SUM)weight[1], right = (SUM)weight[2];
            SUM value;
            if (has_first) {
                sum_0 += left * (SUM)load_INPUT(input, at);
            }
            value = (SUM)load_INPUT(input, at + 1);
            sum_0 += middle * value;
            sum_1 += left * value;
            value = (SUM)load_INPUT(input, at + 2);
            sum_0 += right * value;
            sum_1 += middle * value;
            sum_2 += left * value;
            value = (SUM)load_INPUT(input, at + 3);
            sum_1 += right * value;
            sum_2 += middle * value;
            sum_3 += left * value;
            value = (SUM)load_INPUT(input, at + 4);
            sum_2 += right * value;
            sum_3 += middle * value;
            if (has_last) {
                sum_3 += right * (SUM)load_INPUT(input, at + 5);
            }
            weight += 3;
            at += window->next_line;
        }
        weights += window->next_weights;
        corner += window->next_channel;
    }
    sums[0] = sum_0;
    sums[1] = sum_1;
    sums[2] = sum_2;
    sums[3] = sum_3;
}

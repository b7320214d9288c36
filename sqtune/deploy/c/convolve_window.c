/* One result, of the part of a kernel that lies inside of the image. */
static SUM window_KIND_INPUT(const Window *window, const WEIGHT *weights, const void *input,
                             ptrdiff_t corner)
{
    const ptrdiff_t right = window->right;
    SUM sum = 0;
    int channel, row, column;
    for (channel = window->channels; channel > 0; channel--) {
        const WEIGHT *weight = weights;
        ptrdiff_t line = corner;
        for (row = window->rows; row > 0; row--) {
            ptrdiff_t at = line;
            for (column = 0; column < window->columns; column++) {
                sum += (SUM)weight[column] * (SUM)load_INPUT(input, at);
                at += right;
            }
            weight += window->kernel_width;
            line += window->next_line;
        }
        weights += window->next_weights;
        corner += window->next_channel;
    }
    return sum;
}

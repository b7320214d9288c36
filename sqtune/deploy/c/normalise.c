/* One channel of the image, as the network takes it. */
static void normalise(const uint8_t *pixels, size_t first, size_t count, float mean, float scale,
                      Finish *finish)
{
    size_t i;
    for (i = first; i < first + count; i++) {
        finish(((float)pixels[i] - mean) * scale, i);
    }
}

/* A convolution of images; images lie as channels x height x width. */
typedef struct {
    uint16_t channels, height, width;
    uint16_t out_channels, out_height, out_width;
    uint16_t groups;
    uint8_t kernel_height, kernel_width;
    uint8_t stride_height, stride_width;
    uint8_t top, left; /* padding in front */
    uint8_t dilation_height, dilation_width;
} Convolution;

/* Takes the next result of a step, does what follows on it, and stores it. */
typedef void Finish(float value, size_t index);

/* Writes `count` weights of a layer of `total`, from the `first` on, as whole numbers. */
typedef void Unpack(const uint8_t *codes, size_t total, size_t first, size_t count,
                    int8_t *levels);

/* The part of a kernel that lies inside of an image, and the steps from one element to the next. */
typedef struct {
    int channels, rows, columns, kernel_width, has_first, has_last;
    ptrdiff_t stride, right, next_line, next_channel, next_weights;
} Window;

/* A layer that goes through its inputs: each of the `count` that are not 0 (value, row) adds its weights to the sums that
   it reaches, in `lines` runs of `run` neighbours, `step` apart. The sums of a convolution of stride 1 lie in a grid with
   room around the outputs; input k begins at grid + place[k], its weights at w + from[k]. A Linear has one run, and all of
   its inputs begin at the first sum: place and from are 0. A sum takes its inputs in the order of (H, W, C). */
NQ_INLINE void nq_scatter_f32(
    const float *value, const int32_t *row, const int count, const int32_t *place, const int32_t *from, const float *w,
    float *grid, const int lines, const int run, const int step)
{
    for (int n = 0; n < count; ++n) {
        const nq_f8 x = nq_all8(value[n]);
        const float *line = w + (from ? from[row[n]] : row[n] * run);
        float *sum = grid + (place ? place[row[n]] : 0);
        for (int a = 0; a < lines; ++a, line += run, sum += step) {
            NQ_UNROLL
            for (int i = 0; i < run; i += 8) nq_store_f8(sum + i, nq_fma8(nq_load8(sum + i), x, nq_load8(line + i)));
        }
    }
}

/* Every sum begins with its bias. */
NQ_INLINE void nq_begin_f32(float *grid, const float *b, const int pixels, const int width)
{
    for (int p = 0; p < pixels; ++p, grid += width) {
        NQ_UNROLL
        for (int o = 0; o < width; o += 8) nq_store_f8(grid + o, nq_load8(b + o));
    }
}

/* The outputs out of the grid, whose pixels are `width` apart and whose lines `step`. */
NQ_INLINE void nq_end_f32(
    const float *grid, float *y, const int rows, const int cols, const int channels, const int width, const int step,
    const int function, const float low, const float high)
{
    for (int r = 0; r < rows; ++r) {
        for (int s = 0; s < cols; ++s, y += channels) {
            NQ_UNROLL
            for (int o = 0; o < channels; o += 8) {
                nq_f8 acc = nq_load8(grid + r * step + s * width + o);
                nq_activate8(&acc, function, low, high);
                if (channels - o >= 8) nq_store_f8(y + o, acc);
                else
                    for (int c = 0; c < 8 && o + c < channels; ++c) y[o + c] = acc[c];
            }
        }
    }
}

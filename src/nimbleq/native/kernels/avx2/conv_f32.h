/* Convolution on (H, W, C) for P output pixels x V vectors of 8 output channels, accumulators in registers.
   `x` is already padded. Weights of this tile: [kh][kx][run][8 V]. A run is contiguous in x: all of (kw, C) when there
   is one group, else the channels of the group; then kx steps of `kx_stride` entries. */
NQ_INLINE void nq_conv_tile_f32(
    const float *const *pixel, float *const *out, const float *w, const float *b, const int P, const int V,
    const int kh, const int row_stride, const int kxn, const int kx_stride, const int run, const int keep,
    const int function, const float low, const float high)
{
    nq_f8 acc[12];
    NQ_UNROLL
    for (int p = 0; p < P; ++p) {
        NQ_UNROLL
        for (int v = 0; v < V; ++v) acc[p * V + v] = nq_load8(b + 8 * v);
    }
    for (int ky = 0; ky < kh; ++ky) {
        for (int kx = 0; kx < kxn; ++kx) {
            const int start = ky * row_stride + kx * kx_stride;
            for (int k = 0; k < run; ++k, w += 8 * V) {
                nq_f8 line[2];
                NQ_UNROLL
                for (int v = 0; v < V; ++v) line[v] = nq_load8(w + 8 * v);
                NQ_UNROLL
                for (int p = 0; p < P; ++p) {
                    NQ_UNROLL
                    for (int v = 0; v < V; ++v) acc[p * V + v] = nq_fma8(acc[p * V + v], nq_all8(pixel[p][start + k]), line[v]);
                }
            }
        }
    }
    NQ_UNROLL
    for (int p = 0; p < P; ++p) {
        NQ_UNROLL
        for (int v = 0; v < V; ++v) {
            nq_activate8(&acc[p * V + v], function, low, high);
            if (keep >= 8 * (v + 1)) nq_store_f8(out[p] + 8 * v, acc[p * V + v]);
            else
                for (int c = 8 * v; c < keep; ++c) out[p][c] = acc[p * V + v][c - 8 * v];
        }
    }
}

/* All pixels of one tile of output channels. The last group of pixels overlaps the one before instead of shrinking. */
NQ_INLINE void nq_conv_f32(
    const float *x, float *y, const float *w, const float *b, const int rows, const int cols, const int channels,
    const int width, const int step_y, const int step_x, const int in_channels, const int P, const int V,
    const int kh, const int kxn, const int run, const int keep, const int function, const float low, const float high)
{
    const int pixels = rows * cols;
    for (int first = 0; first < pixels; first += P) {
        const float *pixel[6];
        float *out[6];
        const int from = first + P <= pixels ? first : pixels - P;
        NQ_UNROLL
        for (int p = 0; p < P; ++p) {
            const int oy = (from + p) / cols, ox = (from + p) % cols;
            pixel[p] = x + (oy * step_y * width + ox * step_x) * in_channels;
            out[p] = y + (from + p) * channels;
        }
        nq_conv_tile_f32(pixel, out, w, b, P, V, kh, width * in_channels, kxn, in_channels, run, keep,
                         function, low, high);
    }
}

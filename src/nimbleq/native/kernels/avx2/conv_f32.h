/* Pixels of a tile: with its 16 channels they fill 12 registers. */
enum { NQ_PIXELS_F32 = 12 * NQ_LANES / 16 };

/* Convolution on (H, W, C) for P output pixels x V vectors of 8 output channels, accumulators in registers.
   `x` is already padded. Weights of this tile: [kh][kx][run][8 V]. A run is contiguous in x: all of (kw, C) when there
   is one group, else the channels of the group; then kx steps of `kx_stride` entries. */
NQ_INLINE void nq_conv_tile_f32(
    const float *const *pixel, float *const *out, const float *w, const float *b, const int P, const int V,
    const int kh, const int row_stride, const int kxn, const int kx_stride, const int run, const int keep,
    const int function, const float low, const float high)
{
    const int W = nq_wides(8 * V);
    nq_wide acc[12];
    NQ_UNROLL
    for (int p = 0; p < P; ++p) {
        NQ_UNROLL
        for (int v = 0; v < W; ++v) acc[p * W + v] = nq_load_wide(b + NQ_LANES * v, 8 * V - NQ_LANES * v);
    }
    for (int ky = 0; ky < kh; ++ky) {
        for (int kx = 0; kx < kxn; ++kx) {
            const int start = ky * row_stride + kx * kx_stride;
            for (int k = 0; k < run; ++k, w += 8 * V) {
                nq_wide line[2];
                NQ_UNROLL
                for (int v = 0; v < W; ++v) line[v] = nq_load_wide(w + NQ_LANES * v, 8 * V - NQ_LANES * v);
                NQ_UNROLL
                for (int p = 0; p < P; ++p) {
                    NQ_UNROLL
                    for (int v = 0; v < W; ++v)
                        acc[p * W + v] = nq_fma_wide(acc[p * W + v], nq_all_wide(pixel[p][start + k]), line[v]);
                }
            }
        }
    }
    NQ_UNROLL
    for (int p = 0; p < P; ++p) {
        NQ_UNROLL
        for (int v = 0; v < W; ++v)
            nq_store_wide(out[p] + NQ_LANES * v, nq_activate_wide(acc[p * W + v], function, low, high),
                          keep - NQ_LANES * v);
    }
}

/* All pixels of one tile of output channels. The last group of pixels overlaps the one before instead of shrinking. */
NQ_INLINE void nq_conv_f32(
    const float *x, float *y, const float *w, const float *b, const int rows, const int cols, const int channels,
    const int width, const int step_y, const int step_x, const int in_channels, const int V, const int kh,
    const int kxn, const int run, const int keep, const int function, const float low, const float high)
{
    const int pixels = rows * cols, P = pixels < NQ_PIXELS_F32 ? pixels : NQ_PIXELS_F32;
    for (int first = 0; first < pixels; first += P) {
        const float *pixel[NQ_PIXELS_F32];
        float *out[NQ_PIXELS_F32];
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

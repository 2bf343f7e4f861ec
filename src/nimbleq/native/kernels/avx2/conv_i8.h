/* As nq_conv_tile_f32 with int8 weights on int16 (H, W, C): pairs of neighbours of a run share one multiply-add.
   Weights of this tile: [kh][kx][pairs][8 V][2], widened to int16 beforehand; the last pair of an odd run has a zero
   weight. */
NQ_INLINE void nq_conv_tile_i8(
    const int16_t *const *pixel, const int *place, void *y, const int16_t *w, const int32_t *b, const int P, const int V,
    const int kh, const int row_stride, const int kxn, const int kx_stride, const int run, const int keep,
    const nq_store how)
{
    const int pairs = (run + 1) / 2;
    nq_acc8 acc[12];
    NQ_UNROLL
    for (int p = 0; p < P; ++p) {
        NQ_UNROLL
        for (int v = 0; v < V; ++v) acc[p * V + v] = nq_load_acc8(b + 8 * v);
    }
    for (int ky = 0; ky < kh; ++ky) {
        for (int kx = 0; kx < kxn; ++kx) {
            const int start = ky * row_stride + kx * kx_stride;
            for (int k = 0; k < pairs; ++k, w += 16 * V) {
                __m256i line[8];
                NQ_UNROLL
                for (int v = 0; v < V; ++v)
                    line[v] = _mm256_loadu_si256((const __m256i *)(const void *)(w + 16 * v));
                NQ_UNROLL
                for (int p = 0; p < P; ++p) {
                    const int32_t both = nq_load_i32(pixel[p] + start + 2 * k);
                    const __m256i xs = _mm256_set1_epi32(both);
                    NQ_UNROLL
                    for (int v = 0; v < V; ++v) {
                        acc[p * V + v] += (nq_acc8)_mm256_madd_epi16(line[v], xs);
                    }
                }
            }
        }
    }
    NQ_UNROLL
    for (int p = 0; p < P; ++p)
        nq_store_tile(y, place[p], acc + p * V, V, keep, how);
}

/* All pixels of one tile of output channels, as nq_conv_f32. */
NQ_INLINE void nq_conv_i8(
    const int16_t *x, void *y, const int16_t *w, const int32_t *b, const int rows, const int cols, const int channels,
    const int width, const int step_y, const int step_x, const int in_channels, const int P, const int V, const int kh,
    const int kxn, const int run, const int keep, const nq_store how)
{
    const int pixels = rows * cols;
    for (int first = 0; first < pixels; first += P) {
        const int16_t *pixel[6];
        int place[6];
        const int from = first + P <= pixels ? first : pixels - P;
        NQ_UNROLL
        for (int p = 0; p < P; ++p) {
            const int oy = (from + p) / cols, ox = (from + p) % cols;
            pixel[p] = x + (oy * step_y * width + ox * step_x) * in_channels;
            place[p] = (from + p) * channels;
        }
        nq_conv_tile_i8(pixel, place, y, w, b, P, V, kh, width * in_channels, kxn, in_channels, run, keep, how);
    }
}

/* One tile of a dense layer: one pixel, V vectors of outputs, `count` (even) inputs. */
NQ_INLINE void nq_linear_pairs_i8(
    const int16_t *x, const int count, void *y, const int16_t *w, const int32_t *b, const int V, const nq_store how)
{
    const int16_t *const pixel[1] = {x};
    const int place[1] = {0};
    nq_conv_tile_i8(pixel, place, y, w, b, 1, V, 1, 0, 1, 0, count, 8 * V, how);
}

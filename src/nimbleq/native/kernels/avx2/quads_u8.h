/* int32 sums of bytes (0..h) times int8 weights for P inputs x V vectors of 8 outputs: a convolution with P pixels, or a
   dense layer with one. Step s multiplies the four bytes at x + offset[s], or without offsets at x + 4 s, by weights [s][8 V][4]. Two steps at a time make
   a sum of their own: nq_two_quads says what it asks of the weights. `steps` is even. Where accumulators are few there
   are two sets of them, or they would wait for each other. */
NQ_INLINE void nq_quads_tile_u8(
    const uint8_t *const *pixel, const int *place, void *y, const int8_t *w, const int32_t *b, const int32_t *offset,
    const int steps, const int P, const int V, const int keep, const nq_store how)
{
    const int W = (8 * V + NQ_SUMS - 1) / NQ_SUMS, U = P * W > 4 ? 1 : steps >= 16 ? 4 : steps >= 4 ? 2 : 1;
    nq_sums acc[16];
    NQ_UNROLL
    for (int a = 0; a < P * W * U; ++a) {
        const int v = a % W;
        acc[a] = (nq_sums)(a < P * W ? nq_load_bits(b + NQ_SUMS * v, 8 * V - NQ_SUMS * v) : NQ_MM(set1_epi32)(0));
    }
    int s = 0;
    NQ_ROLLED
    while (s < steps) {
        NQ_UNROLL
        for (int u = 0; u < U; ++u, s += 2, w += 64 * V) {
            if (u > 0 && s >= steps) break;
            NQ_UNROLL
            for (int p = 0; p < P; ++p) {
                const int one = offset ? offset[s] : 4 * s, other = offset ? offset[s + 1] : 4 * s + 4;
                const nq_bits x = NQ_MM(set1_epi32)(nq_load_i32(pixel[p] + one));
                const nq_bits z = NQ_MM(set1_epi32)(nq_load_i32(pixel[p] + other));
                NQ_UNROLL
                for (int v = 0; v < W; ++v) {
                    const int at = NQ_SUMS * v, count = 8 * V - at;
                    nq_sums *const sum = acc + (u * P + p) * W + v;
                    *sum = nq_two_quads(*sum, x, nq_load_bits(w + 4 * at, count), z,
                                        nq_load_bits(w + 32 * V + 4 * at, count));
                }
            }
        }
    }
    NQ_UNROLL
    for (int a = P * W; a < P * W * U; ++a) acc[a % (P * W)] += acc[a];
    NQ_UNROLL
    for (int p = 0; p < P; ++p) nq_store_sums(y, place[p], acc + p * W, V, keep, how);
}

/* All pixels of one tile of output channels, as nq_conv_f32. */
NQ_INLINE void nq_conv_u8(
    const uint8_t *x, void *y, const int8_t *w, const int32_t *b, const int32_t *offset, const int steps,
    const int rows, const int cols, const int channels, const int step_y, const int step_x, const int V,
    const int keep, const nq_store how)
{
    const int pixels = rows * cols, P = pixels < NQ_PIXELS_U8 ? pixels : NQ_PIXELS_U8;
    for (int first = 0; first < pixels; first += P) {
        const uint8_t *pixel[NQ_PIXELS_U8];
        int place[NQ_PIXELS_U8];
        const int from = first + P <= pixels ? first : pixels - P;
        NQ_UNROLL
        for (int p = 0; p < P; ++p) {
            pixel[p] = x + (from + p) / cols * step_y + (from + p) % cols * step_x;
            place[p] = (from + p) * channels;
        }
        nq_quads_tile_u8(pixel, place, y, w, b, offset, steps, P, V, keep, how);
    }
}

/* One tile of a dense layer. */
NQ_INLINE void nq_linear_quads_u8(
    const uint8_t *x, const int32_t *offset, const int steps, void *y, const int8_t *w, const int32_t *b, const int V,
    const nq_store how)
{
    const uint8_t *pixel[1] = {x};
    const int place[1] = {0};
    /* GCC would take the bytes out of the registers that were stored, by shuffles that wait for the products' port. */
    __asm__("" : "+r"(pixel[0]));
    nq_quads_tile_u8(pixel, place, y, w, b, offset, steps, 1, V, 8 * V, how);
}

/* y[o] = w[o] . x + b[o] for few outputs. Rows of w are `stride` apart. */
NQ_INLINE void nq_linear_dot_u8(
    const uint8_t *x, const int8_t *w, const int32_t *b, int32_t *y, const int n_in, const int n_out, const int stride)
{
    const int whole = n_in / 32 * 32;
    uint32_t total[8];
    for (int o = 0; o < n_out; ++o) total[o] = (uint32_t)b[o];
    nq_acc8 acc[8];
    NQ_UNROLL
    for (int o = 0; o < n_out; ++o) acc[o] = (nq_acc8){0, 0, 0, 0, 0, 0, 0, 0};
    for (int k = 0; k < whole; k += 32) {
        const __m256i part = _mm256_loadu_si256((const __m256i *)(const void *)(x + k));
        NQ_UNROLL
        for (int o = 0; o < n_out; ++o) {
            const __m256i line = _mm256_loadu_si256((const __m256i *)(const void *)(w + o * stride + k));
            acc[o] = nq_quad(acc[o], part, line);
        }
    }
    NQ_UNROLL
    for (int o = 0; o < n_out; ++o) total[o] += nq_sum8(acc[o]);
    for (int o = 0; o < n_out; ++o) {
        for (int k = whole; k < n_in; ++k) total[o] += (uint32_t)((int32_t)x[k] * w[o * stride + k]);
        y[o] = (int32_t)total[o];
    }
}

/* y = act(W x + b). Weights in tiles of T vectors of 8 outputs: [tile][in][8 T]. The accumulators of a tile stay in
   registers over all rows; U rows at a time hide the latency of the multiply-add when they are few. */
NQ_INLINE void nq_linear_tile_f32(
    const float *x, const int32_t *row, const int count, const float *w, const float *b, float *y,
    const int T, const int sparse, const int function, const float low, const float high)
{
    const int W = nq_wides(8 * T), U = 8 / W;
    nq_wide acc[8];
    NQ_UNROLL
    for (int a = 0; a < W * U; ++a)
        acc[a] = a < W ? nq_load_wide(b + NQ_LANES * a, 8 * T - NQ_LANES * a) : nq_all_wide(0);
    int k = 0;
    for (; k + U <= count; k += U) {
        NQ_UNROLL
        for (int u = 0; u < U; ++u) {
            const float *line = w + (size_t)(sparse ? row[k + u] : k + u) * (size_t)(8 * T);
            NQ_UNROLL
            for (int t = 0; t < W; ++t)
                acc[u * W + t] = nq_fma_wide(acc[u * W + t], nq_all_wide(x[k + u]),
                                             nq_load_wide(line + NQ_LANES * t, 8 * T - NQ_LANES * t));
        }
    }
    if (U > 1) {
        for (; k < count; ++k) {
            const float *line = w + (size_t)(sparse ? row[k] : k) * (size_t)(8 * T);
            NQ_UNROLL
            for (int t = 0; t < W; ++t)
                acc[t] = nq_fma_wide(acc[t], nq_all_wide(x[k]),
                                     nq_load_wide(line + NQ_LANES * t, 8 * T - NQ_LANES * t));
        }
        NQ_UNROLL
        for (int a = W; a < W * U; ++a) acc[a % W] += acc[a];
    }
    NQ_UNROLL
    for (int t = 0; t < W; ++t)
        nq_store_wide(y + NQ_LANES * t, nq_activate_wide(acc[t], function, low, high), 8 * T - NQ_LANES * t);
}

/* y[o] = act(w[o] . x + b[o]) for few outputs: vectors run along the inputs. Rows of w are `stride` apart. */
NQ_INLINE void nq_linear_dot_f32(
    const float *x, const float *w, const float *b, float *y, const int n_in, const int n_out, const int stride,
    const int function, const float low, const float high)
{
    const int whole = nq_in_wides(n_in);
    float total[8];
    nq_wide acc[8];
    NQ_UNROLL
    for (int o = 0; o < n_out; ++o) acc[o] = nq_all_wide(0);
    for (int k = 0; k < whole; k += NQ_LANES) {
        const nq_wide part = nq_load_wide(x + k, n_in - k);
        NQ_UNROLL
        for (int o = 0; o < n_out; ++o) acc[o] = nq_fma_wide(acc[o], part, nq_load_wide(w + o * stride + k, n_in - k));
    }
    NQ_UNROLL
    for (int o = 0; o < n_out; ++o) total[o] = nq_sum_wide(acc[o]);
    for (int o = 0; o < n_out; ++o) {
        for (int k = whole; k < n_in; ++k) total[o] += x[k] * w[o * stride + k];
        y[o] = nq_activate(total[o] + b[o], function, low, high);
    }
}

/* Values and places of the non-zeros of x, without branches. `value` and `row` need room for count + 8 entries. */
NQ_INLINE int nq_nonzero_f32(const float *x, const int count, float *value, int32_t *row)
{
    int n = 0, i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        const __m256 there = _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ);
        const unsigned mask = (unsigned)_mm256_movemask_ps(there);
        const uint64_t bytes = _pdep_u64(mask, 0x0101010101010101u) * 0xffu;
        const uint64_t places = _pext_u64(0x0706050403020100u, bytes);
        const __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)places));
        _mm256_storeu_ps(value + n, _mm256_permutevar8x32_ps(v, order));
        _mm256_storeu_si256((__m256i *)(void *)(row + n), _mm256_add_epi32(order, _mm256_set1_epi32(i)));
        n += __builtin_popcount(mask);
    }
    for (; i < count; ++i) {
        value[n] = x[i];
        row[n] = i;
        n += !(x[i] >= 0.0f && x[i] <= 0.0f); /* NaN, too */
    }
    return n;
}

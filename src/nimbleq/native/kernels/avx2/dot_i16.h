/* y[o] = w[o] . x + b[o] for few outputs, inputs and weights in whole vectors of 16. */
NQ_INLINE void nq_linear_dot_i16(
    const int16_t *x, const int16_t *w, const int32_t *b, int32_t *y, const int n_in, const int n_out)
{
    nq_acc8 acc[8];
    NQ_UNROLL
    for (int o = 0; o < n_out; ++o) acc[o] = (nq_acc8){0, 0, 0, 0, 0, 0, 0, 0};
    for (int k = 0; k < n_in; k += 16) {
        const __m256i part = _mm256_loadu_si256((const __m256i *)(const void *)(x + k));
        NQ_UNROLL
        for (int o = 0; o < n_out; ++o) {
            const __m256i line = _mm256_loadu_si256((const __m256i *)(const void *)(w + o * n_in + k));
            acc[o] += (nq_acc8)_mm256_madd_epi16(line, part);
        }
    }
    NQ_UNROLL
    for (int o = 0; o < n_out; ++o) y[o] = (int32_t)(nq_sum8(acc[o]) + (uint32_t)b[o]);
}

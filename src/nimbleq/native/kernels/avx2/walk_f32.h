/* Bit k is set where input k is not zero; up to 64 inputs, whose whole vectors of eight may be read. */
NQ_INLINE uint64_t nq_there_f32(const float *x, const int count)
{
    uint64_t there = 0;
    NQ_UNROLL
    for (int i = 0; i < count; i += 8) {
        const __m256 differs = _mm256_cmp_ps(_mm256_loadu_ps(x + i), _mm256_setzero_ps(), _CMP_NEQ_UQ);
        there |= (uint64_t)(unsigned)_mm256_movemask_ps(differs) << i;
    }
    return there & ~(uint64_t)0 >> (64 - count);
}

/* As nq_linear_tile_f32 for few inputs: the rows of those that are there, one after the other. */
NQ_INLINE void nq_linear_walk_f32(
    const float *x, uint64_t there, const float *w, const float *b, float *y, const int T, const int function,
    const float low, const float high)
{
    nq_f8 acc[8];
    NQ_UNROLL
    for (int t = 0; t < T; ++t) acc[t] = nq_load8(b + 8 * t);
    NQ_ROLLED
    for (; there != 0; there &= there - 1) {
        const int k = __builtin_ctzll(there);
        const float *const line = w + k * 8 * T;
        NQ_UNROLL
        for (int t = 0; t < T; ++t) acc[t] = nq_fma8(acc[t], nq_all8(x[k]), nq_load8(line + 8 * t));
    }
    NQ_UNROLL
    for (int t = 0; t < T; ++t) {
        nq_activate8(&acc[t], function, low, high);
        nq_store_f8(y + 8 * t, acc[t]);
    }
}

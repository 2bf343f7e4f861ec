/* Bit k is set where input k is not zero; up to 64 inputs, whose whole vectors of eight may be read. */
NQ_INLINE uint64_t nq_there_f32(const float *x, const int count)
{
    uint64_t there = 0;
    NQ_UNROLL
    for (int i = 0; i < count; i += NQ_LANES) there |= (uint64_t)nq_there_wide(nq_load_wide(x + i, count - i)) << i;
    return there & ~(uint64_t)0 >> (64 - count);
}

/* As nq_linear_tile_f32 for few inputs: the rows of those that are there, one after the other, or two where the
   accumulators are so few that the multiply-adds would wait for each other. */
NQ_INLINE void nq_linear_walk_f32(
    const float *x, uint64_t there, const float *w, const float *b, float *y, const int T, const int function,
    const float low, const float high)
{
    const int W = nq_wides(8 * T), two = W <= 4;
    nq_wide acc[8];
    NQ_UNROLL
    for (int t = 0; t < W; ++t) acc[t] = nq_load_wide(b + NQ_LANES * t, 8 * T - NQ_LANES * t);
    if (two) {
        NQ_UNROLL
        for (int t = 0; t < W; ++t) acc[4 + t] = nq_all_wide(0);
        NQ_ROLLED
        while (there & (there - 1)) {
            const int k = __builtin_ctzll(there);
            there &= there - 1;
            const int l = __builtin_ctzll(there);
            there &= there - 1;
            NQ_UNROLL
            for (int t = 0; t < W; ++t) {
                const int at = NQ_LANES * t, count = 8 * T - NQ_LANES * t;
                acc[t] = nq_fma_wide(acc[t], nq_all_wide(x[k]), nq_load_wide(w + k * 8 * T + at, count));
                acc[4 + t] = nq_fma_wide(acc[4 + t], nq_all_wide(x[l]), nq_load_wide(w + l * 8 * T + at, count));
            }
        }
        NQ_UNROLL
        for (int t = 0; t < W; ++t) acc[t] += acc[4 + t];
    }
    NQ_ROLLED
    for (; there != 0; there &= there - 1) {
        const int k = __builtin_ctzll(there);
        NQ_UNROLL
        for (int t = 0; t < W; ++t)
            acc[t] = nq_fma_wide(acc[t], nq_all_wide(x[k]),
                                 nq_load_wide(w + k * 8 * T + NQ_LANES * t, 8 * T - NQ_LANES * t));
    }
    NQ_UNROLL
    for (int t = 0; t < W; ++t)
        nq_store_wide(y + NQ_LANES * t, nq_activate_wide(acc[t], function, low, high), 8 * T - NQ_LANES * t);
}

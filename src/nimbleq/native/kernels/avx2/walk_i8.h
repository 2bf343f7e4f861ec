/* Bit k is set where one of inputs 2 k and 2 k + 1 is not zero; up to 64 inputs, in whole vectors of 16 that end with
   zeros or have weights for everything. */
NQ_INLINE uint32_t nq_pairs_there(const int16_t *x, const int count)
{
    uint32_t there = 0;
    NQ_UNROLL
    for (int i = 0; i < count; i += 16) {
        const __m256i pairs = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
        const __m256 none = _mm256_castsi256_ps(_mm256_cmpeq_epi32(pairs, _mm256_setzero_si256()));
        there |= (uint32_t)(~_mm256_movemask_ps(none) & 0xff) << (i / 2);
    }
    return there & ~(uint32_t)0 >> (32 - (count + 1) / 2);
}

/* As nq_linear_pairs_i8 for few inputs: the pairs that are there, one after the other. */
NQ_INLINE void nq_linear_walk_i8(
    const int16_t *x, uint32_t there, void *y, const int16_t *w, const int32_t *b, const int V, const nq_store how)
{
    nq_acc8 acc[8];
    NQ_UNROLL
    for (int v = 0; v < V; ++v) acc[v] = nq_load_acc8(b + 8 * v);
    NQ_ROLLED
    for (; there != 0; there &= there - 1) {
        const size_t k = (size_t)__builtin_ctz(there);
        const __m256i xs = _mm256_set1_epi32(nq_load_i32(x + 2 * k));
        const __m256i *const line = (const __m256i *)(const void *)(w + k * (size_t)(16 * V));
        NQ_UNROLL
        for (int v = 0; v < V; ++v) {
            acc[v] += (nq_acc8)_mm256_madd_epi16(_mm256_loadu_si256(line + v), xs);
        }
    }
    nq_store_tile(y, 0, acc, V, 8 * V, how);
}

/* Bytes as int16 in `value` (room for 64), up to 64 of them, whose whole vectors of 32 may be read. Bit 2 k is set where
   one of inputs 2 k and 2 k + 1 is not zero; of an odd count the last one's always is. */
NQ_INLINE uint64_t nq_pairs_there(const uint8_t *x, const int count, int16_t *value)
{
    uint64_t there = 0;
    NQ_UNROLL
    for (int i = 0; i < count; i += 32) {
        const __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
        const __m256i none = _mm256_cmpeq_epi16(bytes, _mm256_setzero_si256());
        __m256i *const out = (__m256i *)(void *)(value + i);
        _mm256_storeu_si256(out, _mm256_cvtepu8_epi16(_mm256_castsi256_si128(bytes)));
        _mm256_storeu_si256(out + 1, _mm256_cvtepu8_epi16(_mm256_extracti128_si256(bytes, 1)));
        there |= (uint64_t)(~(unsigned)_mm256_movemask_epi8(none) & 0x55555555u) << i;
    }
    if (count & 1) there |= (uint64_t)1 << (count - 1);
    return there & ~(uint64_t)0 >> (64 - count);
}

/* As nq_linear_pairs_i8 for few inputs: the pairs that are there, one after the other. */
NQ_INLINE void nq_linear_walk_i8(
    const int16_t *value, uint64_t there, void *y, const int16_t *w, const int32_t *b, const int V, const int store,
    const int32_t *multiplier, const int32_t *shift, const int32_t zero_point, const int32_t low, const int32_t high)
{
    __m256i acc[8];
    NQ_UNROLL
    for (int v = 0; v < V; ++v) acc[v] = _mm256_loadu_si256((const __m256i *)(const void *)(b + 8 * v));
    NQ_ROLLED
    for (; there != 0; there &= there - 1) {
        const int k = __builtin_ctzll(there);
        const __m256i xs = _mm256_set1_epi32(nq_load_i32(value + k));
        const __m256i *const line = (const __m256i *)(const void *)(w + k * 8 * V);
        NQ_UNROLL
        for (int v = 0; v < V; ++v) {
            acc[v] = _mm256_add_epi32(acc[v], _mm256_madd_epi16(_mm256_loadu_si256(line + v), xs));
            NQ_PIN(acc[v]);
        }
    }
    nq_store_tile(y, 0, acc, V, 8 * V, store, multiplier, shift, zero_point, low, high);
}

/* The non-zeros of the eight bytes from x + first on, and their places in x (room for eight); how many they are. */
NQ_INLINE int nq_nonzero8(const uint8_t *x, const int first, uint64_t *found, int32_t *row)
{
    const uint64_t eight = *(const nq_u64u *)(const void *)(x + first);
    const __m128i v = _mm_loadl_epi64((const __m128i *)(const void *)(x + first));
    const uint64_t there = ~(uint64_t)_mm_cvtsi128_si64(_mm_cmpeq_epi8(v, _mm_setzero_si128()));
    const __m128i places = _mm_cvtsi64_si128((long long)_pext_u64(0x0706050403020100u, there));
    *found = _pext_u64(eight, there);
    _mm256_storeu_si256((__m256i *)(void *)row,
                        _mm256_add_epi32(_mm256_cvtepu8_epi32(places), _mm256_set1_epi32(first)));
    return __builtin_popcountll(there) >> 3;
}

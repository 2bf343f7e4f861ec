/* The non-zeros of the eight bytes from x + first on, and their places in x (room for eight); how many they are. */
NQ_INLINE int nq_nonzero8(const uint8_t *x, const int first, uint64_t *found, int32_t *row)
{
    const uint64_t eight = *(const nq_u64u *)(const void *)(x + first);
    const __m128i v = _mm_cvtsi64_si128((long long)eight);
    const unsigned mask = ~(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128())) & 0xffu;
    const uint64_t bytes = _pdep_u64(mask, 0x0101010101010101u) * 0xffu;
    const __m128i places = _mm_cvtsi64_si128((long long)_pext_u64(0x0706050403020100u, bytes));
    *found = _pext_u64(eight, bytes);
    _mm256_storeu_si256((__m256i *)(void *)row,
                        _mm256_add_epi32(_mm256_cvtepu8_epi32(places), _mm256_set1_epi32(first)));
    return __builtin_popcount(mask);
}

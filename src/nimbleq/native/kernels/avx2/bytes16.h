/* Eight scaled values for s >= 33, where the low half of the product cannot reach the result:
   floor((h + 2^(t-1)) / 2^t) = (floor(h / 2^(t-1)) + 1) >> 1 with h the high half and t = s - 32. */
NQ_INLINE __m256i nq_scaled8(const __m256i x, const int32_t *multiplier, const int32_t *shift)
{
    const __m256i m = _mm256_loadu_si256((const __m256i *)(const void *)multiplier);
    const __m256i s = _mm256_loadu_si256((const __m256i *)(const void *)shift);
    const __m256i even = _mm256_mul_epi32(x, m);
    const __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(m, 32));
    const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    const __m256i twice = _mm256_srav_epi32(high, _mm256_sub_epi32(s, _mm256_set1_epi32(33)));
    return _mm256_srai_epi32(_mm256_add_epi32(twice, _mm256_set1_epi32(1)), 1);
}

/* Sixteen of them as bytes. Each step saturates, so clamping is left to the bytes. */
NQ_INLINE __m128i nq_bytes16(
    const __m256i first, const __m256i second, const int32_t zero_point, const int32_t low, const int32_t high)
{
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xd8);
    const __m256i moved = _mm256_adds_epi16(words, _mm256_set1_epi16((short)zero_point));
    const __m128i a = _mm256_castsi256_si128(moved), c = _mm256_extracti128_si256(moved, 1);
    if (low < 0) {
        const __m128i v = _mm_max_epi8(_mm_packs_epi16(a, c), _mm_set1_epi8((char)low));
        return _mm_min_epi8(v, _mm_set1_epi8((char)(high > 127 ? 127 : high)));
    }
    return _mm_min_epu8(_mm_max_epu8(_mm_packus_epi16(a, c), _mm_set1_epi8((char)low)), _mm_set1_epi8((char)high));
}

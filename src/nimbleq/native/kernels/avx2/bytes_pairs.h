/* Sums of four products of bytes (0..h) and int8 weights, by instructions that stop at 16 bits: whoever writes the weights
   proves that no sum gets there. */
NQ_INLINE __m256i nq_quad(const __m256i acc, const __m256i x, const __m256i w)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)));
}

/* Two of them, added in 16 bits. */
NQ_INLINE __m256i nq_two_quads(const __m256i acc, const __m256i x, const __m256i w, const __m256i z, const __m256i v)
{
    const __m256i sum = _mm256_add_epi16(_mm256_maddubs_epi16(x, w), _mm256_maddubs_epi16(z, v));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(sum, _mm256_set1_epi16(1)));
}

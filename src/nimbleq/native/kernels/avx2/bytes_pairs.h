/* Sums of four products of bytes (0..h) and int8 weights, by instructions that stop at 16 bits: whoever writes the weights
   proves that no sum gets there. */
NQ_INLINE nq_acc8 nq_quad(const nq_acc8 acc, const __m256i x, const __m256i w)
{
    return acc + (nq_acc8)_mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1));
}

/* Two of them, added in 16 bits. */
NQ_INLINE nq_acc8 nq_two_quads(const nq_acc8 acc, const __m256i x, const __m256i w, const __m256i z, const __m256i v)
{
    const __m256i sum = _mm256_add_epi16(_mm256_maddubs_epi16(x, w), _mm256_maddubs_epi16(z, v));
    return acc + (nq_acc8)_mm256_madd_epi16(sum, _mm256_set1_epi16(1));
}

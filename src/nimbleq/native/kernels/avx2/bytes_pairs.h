/* Sums of four products of bytes (0..h) and int8 weights, by instructions that stop at 16 bits: whoever writes the weights
   proves that no sum gets there. */
enum { NQ_PIXELS_U8 = NQ_SUMS == 16 ? 12 : 4 }; /* of a tile: intermediate sums take registers, of which AVX-512 has 32 */

NQ_INLINE nq_acc8 nq_quad(const nq_acc8 acc, const __m256i x, const __m256i w)
{
    return acc + (nq_acc8)_mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1));
}

/* Two of them, added in 16 bits. */
NQ_INLINE nq_sums nq_two_quads(const nq_sums acc, const nq_bits x, const nq_bits w, const nq_bits z, const nq_bits v)
{
    const nq_bits sum = NQ_MM(add_epi16)(NQ_MM(maddubs_epi16)(x, w), NQ_MM(maddubs_epi16)(z, v));
    return acc + (nq_sums)NQ_MM(madd_epi16)(sum, NQ_MM(set1_epi16)(1));
}

/* Sums of four products of bytes and int8 weights, exact in 32 bits: one instruction. */
enum { NQ_PIXELS_U8 = NQ_SUMS == 16 ? 12 : 6 }; /* of a tile: with its 16 channels they fill 12 registers */

NQ_INLINE nq_acc8 nq_quad(const nq_acc8 acc, const __m256i x, const __m256i w)
{
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return (nq_acc8)_mm256_dpbusd_epi32((__m256i)acc, x, w);
#else
    return (nq_acc8)_mm256_dpbusd_avx_epi32((__m256i)acc, x, w);
#endif
}

NQ_INLINE nq_sums nq_two_quads(const nq_sums acc, const nq_bits x, const nq_bits w, const nq_bits z, const nq_bits v)
{
#if defined(__AVX512BW__) && defined(__AVX512VNNI__)
    return (nq_sums)_mm512_dpbusd_epi32(_mm512_dpbusd_epi32((nq_bits)acc, x, w), z, v);
#else
    return nq_quad(nq_quad(acc, x, w), z, v);
#endif
}

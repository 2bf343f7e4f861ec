/* Sums of four products of bytes and int8 weights, exact in 32 bits: one instruction. */
NQ_INLINE nq_acc8 nq_quad(const nq_acc8 acc, const __m256i x, const __m256i w)
{
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return (nq_acc8)_mm256_dpbusd_epi32((__m256i)acc, x, w);
#else
    return (nq_acc8)_mm256_dpbusd_avx_epi32((__m256i)acc, x, w);
#endif
}

NQ_INLINE nq_acc8 nq_two_quads(const nq_acc8 acc, const __m256i x, const __m256i w, const __m256i z, const __m256i v)
{
    return nq_quad(nq_quad(acc, x, w), z, v);
}

/* Sums of four products of bytes and int8 weights, exact in 32 bits: one instruction. */
NQ_INLINE __m256i nq_quad(const __m256i acc, const __m256i x, const __m256i w)
{
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_dpbusd_epi32(acc, x, w);
#else
    return _mm256_dpbusd_avx_epi32(acc, x, w);
#endif
}

NQ_INLINE __m256i nq_two_quads(const __m256i acc, const __m256i x, const __m256i w, const __m256i z, const __m256i v)
{
    return nq_quad(nq_quad(acc, x, w), z, v);
}

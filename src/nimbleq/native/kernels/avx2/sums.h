/* 32-bit sums of products of bytes: sixteen at once where the compiler may use AVX-512, else eight. `count` says how many
   of them there are, a multiple of 8. */
#if defined(__AVX512BW__)

enum { NQ_SUMS = 16 };
typedef __m512i nq_bits;
typedef uint32_t nq_sums __attribute__((vector_size(64)));
#define NQ_MM(name) _mm512_##name

/* That many times 32 bits. */
NQ_INLINE nq_bits nq_load_bits(const void *p, const int count)
{
    return count >= 16 ? _mm512_loadu_si512(p) : _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *)p));
}

NQ_INLINE void nq_as_eights(const nq_sums acc, nq_acc8 *to, const int count)
{
    to[0] = (nq_acc8)_mm512_castsi512_si256((__m512i)acc);
    if (count >= 16) to[1] = (nq_acc8)_mm512_extracti64x4_epi64((__m512i)acc, 1);
}

#else

enum { NQ_SUMS = 8 };
typedef __m256i nq_bits;
typedef nq_acc8 nq_sums;
#define NQ_MM(name) _mm256_##name

NQ_INLINE nq_bits nq_load_bits(const void *p, const int count)
{
    (void)count;
    return _mm256_loadu_si256((const __m256i *)p);
}

NQ_INLINE void nq_as_eights(const nq_sums acc, nq_acc8 *to, const int count)
{
    (void)count;
    to[0] = acc;
}

#endif

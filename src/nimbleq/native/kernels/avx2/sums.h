/* 32-bit sums of products of bytes: sixteen at once where the compiler may use AVX-512, else eight. `count` says how many
   of them there are, a multiple of 8. */
#if defined(__AVX512BW__) && (defined(__AVX512VNNI__) || !defined(__AVXVNNI__))

enum { NQ_SUMS = 16 };
typedef __m512i nq_bits;
typedef uint32_t nq_sums __attribute__((vector_size(64)));
#define NQ_MM(name) _mm512_##name

/* That many times 32 bits. */
NQ_INLINE nq_bits nq_load_bits(const void *p, const int count)
{
    return count >= 16 ? _mm512_loadu_si512(p) : _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *)p));
}

/* As nq_scaled16, of sixteen sums. */
NQ_INLINE __m256i nq_scaled_sums(const nq_sums acc, const int o, const nq_store how)
{
    const nq_bits m = _mm512_loadu_si512(how.multiplier + o), even = _mm512_mul_epi32((nq_bits)acc, m);
    const nq_bits odd = _mm512_mul_epi32(_mm512_srli_epi64((nq_bits)acc, 32), _mm512_srli_epi64(m, 32));
    nq_bits high = _mm512_mask_shuffle_epi32(odd, 0x5555, even, (_MM_PERM_ENUM)0xf5);
    const __m256i by = _mm256_loadu_si256((const __m256i *)(const void *)(how.rounding + o));
    if (how.shift) high = _mm512_srav_epi32(high, _mm512_loadu_si512(how.shift + o));
    return _mm256_mulhrs_epi16(
        _mm256_packs_epi32(_mm512_castsi512_si256(high), _mm512_extracti64x4_epi64(high, 1)), by);
}

/* nq_store_tile of such sums. */
NQ_INLINE void nq_store_sums(
    void *y, const int place, const nq_sums *acc, const int V, const int keep, const nq_store how)
{
    if (how.mode == NQ_BYTES_HIGH && V % 2 == 0) {
        NQ_UNROLL
        for (int o = 0; o < 8 * V; o += 32) {
            const __m256i first = nq_scaled_sums(acc[o / 16], o, how);
            const __m256i second = o + 16 < 8 * V ? nq_scaled_sums(acc[o / 16 + 1], o + 16, how) : _mm256_setzero_si256();
            nq_store_bytes32((unsigned char *)y + place + o, first, second, keep - o, how);
        }
    } else {
        nq_acc8 eights[8];
        NQ_UNROLL
        for (int v = 0; v < V; ++v)
            eights[v] = (nq_acc8)(v % 2 ? _mm512_extracti64x4_epi64((nq_bits)acc[v / 2], 1)
                                        : _mm512_castsi512_si256((nq_bits)acc[v / 2]));
        nq_store_tile(y, place, eights, V, keep, how);
    }
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

NQ_INLINE void nq_store_sums(
    void *y, const int place, const nq_sums *acc, const int V, const int keep, const nq_store how)
{
    nq_store_tile(y, place, acc, V, keep, how);
}

#endif

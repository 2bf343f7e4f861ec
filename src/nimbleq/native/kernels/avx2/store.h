/* Where accumulators go: NQ_ACCUMULATOR stores int32; the others requantize, NQ_BYTES for s >= 31, NQ_BYTES_HIGH for
   s >= 33 and NQ_WORDS too, which stores int16. */
enum { NQ_ACCUMULATOR, NQ_BYTES, NQ_BYTES_HIGH, NQ_WORDS };

typedef struct {
    int mode;
    const int32_t *multiplier; /* with one entry of slack */
    const int32_t *shift;      /* s, or for s >= 33 what nq_scaled16 calls `less` */
    const int16_t *rounding;   /* for s >= 33 */
    int32_t zero_point, low, high;
} nq_store;

/* The sum of eight. */
NQ_INLINE uint32_t nq_sum8(const nq_acc8 acc)
{
    const __m256i x = (__m256i)acc;
    __m128i v = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4e));
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(v);
}

/* Eight at once, for s >= 31, where the scaled value fits 32 bits. 2^62 is added so that a logical shift will do. */
NQ_INLINE __m256i nq_requantize8(
    const __m256i x, const int32_t *multiplier, const int32_t *shift, const nq_store how)
{
    const __m256i m = _mm256_loadu_si256((const __m256i *)(const void *)multiplier);
    const __m256i s = _mm256_loadu_si256((const __m256i *)(const void *)shift);
    const __m256i one = _mm256_set1_epi64x(1), offset = _mm256_set1_epi64x((long long)1 << 62);
    const __m256i s_even = _mm256_and_si256(s, _mm256_set1_epi64x(0xffffffffLL)), s_odd = _mm256_srli_epi64(s, 32);
    const __m256i r_even = _mm256_add_epi64(offset, _mm256_sllv_epi64(one, _mm256_sub_epi64(s_even, one)));
    const __m256i r_odd = _mm256_add_epi64(offset, _mm256_sllv_epi64(one, _mm256_sub_epi64(s_odd, one)));
    const __m256i p_even = _mm256_mul_epi32(x, m);
    const __m256i p_odd = _mm256_mul_epi32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(m, 32));
    const __m256i y_even = _mm256_srlv_epi64(_mm256_add_epi64(p_even, r_even), s_even);
    const __m256i y_odd = _mm256_srlv_epi64(_mm256_add_epi64(p_odd, r_odd), s_odd);
    const __m256i y = _mm256_blend_epi32(y_even, _mm256_slli_epi64(y_odd, 32), 0xaa);
    const __m256i extra = _mm256_sllv_epi32(_mm256_set1_epi32(1), _mm256_sub_epi32(_mm256_set1_epi32(62), s));
    const __m256i level = _mm256_sub_epi32(y, extra);
    const __m256i above = _mm256_max_epi32(level, _mm256_set1_epi32(how.low - how.zero_point));
    const __m256i inside = _mm256_min_epi32(above, _mm256_set1_epi32(how.high - how.zero_point));
    return _mm256_add_epi32(inside, _mm256_set1_epi32(how.zero_point));
}

/* The high halves of eight products, shifted by what more there is (`less`, 0 for nothing). */
NQ_INLINE __m256i nq_high8(const __m256i x, const int32_t *multiplier, const int32_t *less)
{
    const __m256i even = _mm256_mul_epi32(x, _mm256_loadu_si256((const __m256i *)(const void *)multiplier));
    const __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(x, 32),
                                         _mm256_loadu_si256((const __m256i *)(const void *)(multiplier + 1)));
    const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    return less ? _mm256_srav_epi32(high, _mm256_loadu_si256((const __m256i *)(const void *)less)) : high;
}

/* Outputs o … o + 15 of V vectors, those beyond being zero, scaled for s >= 33, in 16 bits, as 0-3, 8-11, 4-7, 12-15. Of s,
   32 are the high half and up to 7 a rounding shift r, which is a product with 2^(15 - r) (`rounding`); what is left over
   (`less`) comes before. Values beyond 16 bits saturate, which is beyond every byte. */
NQ_INLINE __m256i nq_scaled16(const nq_acc8 *acc, const int V, const int o, const nq_store how)
{
    __m256i half[2];
    NQ_UNROLL
    for (int i = 0; i < 2; ++i) {
        const int v = o / 8 + i;
        half[i] = v < V ? nq_high8((__m256i)acc[v], how.multiplier + 8 * v, how.shift ? how.shift + 8 * v : 0)
                        : _mm256_setzero_si256();
    }
    const __m256i by = _mm256_loadu_si256((const __m256i *)(const void *)(how.rounding + o));
    return _mm256_mulhrs_epi16(_mm256_packs_epi32(half[0], half[1]), by);
}

/* Clamps bytes. */
NQ_INLINE __m256i nq_clamp32(const __m256i v, const int32_t low, const int32_t high)
{
    __m256i inside = v;
    if (low < 0) {
        if (low > -128) inside = _mm256_max_epi8(inside, _mm256_set1_epi8((char)low));
        if (high < 127) inside = _mm256_min_epi8(inside, _mm256_set1_epi8((char)high));
    } else {
        if (low > 0) inside = _mm256_max_epu8(inside, _mm256_set1_epi8((char)low));
        if (high < 255) inside = _mm256_min_epu8(inside, _mm256_set1_epi8((char)high));
    }
    return inside;
}

/* Twice sixteen of them as bytes. Each step saturates, so clamping is left to the bytes. */
NQ_INLINE __m256i nq_bytes32(__m256i first, __m256i second, const nq_store how)
{
    const __m256i zero = _mm256_set1_epi16((short)how.zero_point);
    if (how.zero_point != 0) {
        first = _mm256_adds_epi16(first, zero);
        second = _mm256_adds_epi16(second, zero);
    }
    const __m256i mixed = how.low < 0 ? _mm256_packs_epi16(first, second) : _mm256_packus_epi16(first, second);
    return nq_clamp32(_mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)), how.low, how.high);
}

/* The first `more` of them. */
NQ_INLINE void nq_store_bytes32(
    unsigned char *out, const __m256i first, const __m256i second, const int more, const nq_store how)
{
    const __m256i all = nq_bytes32(first, second, how);
    if (more >= 32) {
        _mm256_storeu_si256((__m256i *)(void *)out, all);
    } else if (more == 16) {
        _mm_storeu_si128((__m128i *)(void *)out, _mm256_castsi256_si128(all));
    } else {
        unsigned char part[32];
        _mm256_storeu_si256((__m256i *)(void *)part, all);
        for (int i = 0; i < 32 && i < more; ++i) out[i] = part[i];
    }
}

/* Sixteen of them as int16, in order. */
NQ_INLINE __m256i nq_words16(const __m256i v, const nq_store how)
{
    const __m256i lows = _mm256_set1_epi16((short)how.low), highs = _mm256_set1_epi16((short)how.high);
    __m256i level = _mm256_permute4x64_epi64(v, 0xd8);
    if (how.zero_point != 0) level = _mm256_adds_epi16(level, _mm256_set1_epi16((short)how.zero_point));
    return _mm256_min_epi16(_mm256_max_epi16(level, lows), highs);
}

/* The low bytes of eight int32. */
NQ_INLINE void nq_store8(unsigned char *y, const __m256i v, const int count)
{
    const __m256i bytes = _mm256_shuffle_epi8(
        v, _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                            0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
    const __m128i packed = _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
    if (count >= 8) {
        _mm_storel_epi64((__m128i *)(void *)y, packed);
    } else {
        unsigned char part[16];
        _mm_storeu_si128((__m128i *)(void *)part, packed);
        for (int i = 0; i < count; ++i) y[i] = part[i];
    }
}

NQ_INLINE void nq_store32(int32_t *y, const __m256i v, const int count)
{
    if (count >= 8) {
        _mm256_storeu_si256((__m256i *)(void *)y, v);
    } else {
        int32_t part[8];
        _mm256_storeu_si256((__m256i *)(void *)part, v);
        for (int i = 0; i < count; ++i) y[i] = part[i];
    }
}

/* V vectors of accumulators, the first `keep` of their entries; all of them as NQ_WORDS. */
NQ_INLINE void nq_store_tile(
    void *y, const int place, const nq_acc8 *acc, const int V, const int keep, const nq_store how)
{
    unsigned char *const bytes = (unsigned char *)y + place;
    if (how.mode == NQ_ACCUMULATOR) {
        NQ_UNROLL
        for (int v = 0; v < V; ++v) nq_store32((int32_t *)y + place + 8 * v, (__m256i)acc[v], keep - 8 * v);
    } else if (how.mode == NQ_BYTES) {
        NQ_UNROLL
        for (int v = 0; v < V; ++v)
            nq_store8(bytes + 8 * v, nq_requantize8((__m256i)acc[v], how.multiplier + 8 * v, how.shift + 8 * v, how),
                      keep - 8 * v);
    } else if (how.mode == NQ_WORDS) {
        int16_t *const words = (int16_t *)y + place;
        NQ_UNROLL
        for (int o = 0; o < 8 * V; o += 16)
            _mm256_storeu_si256((__m256i *)(void *)(words + o), nq_words16(nq_scaled16(acc, V, o, how), how));
    } else {
        NQ_UNROLL
        for (int o = 0; o < 8 * V; o += 32) {
            const __m256i first = nq_scaled16(acc, V, o, how);
            const __m256i second = o + 16 < 8 * V ? nq_scaled16(acc, V, o + 16, how) : _mm256_setzero_si256();
            nq_store_bytes32(bytes + o, first, second, keep - o, how);
        }
    }
}

/* Where accumulators go: NQ_ACCUMULATOR stores int32; the others requantize and store one byte each, NQ_BYTES for
   s >= 31, NQ_BYTES_HIGH for s >= 33, which gets s - 33 as `shift`. Multipliers have one entry of slack. */
enum { NQ_ACCUMULATOR, NQ_BYTES, NQ_BYTES_HIGH };

/* The sum of eight. */
NQ_INLINE uint32_t nq_sum8(const __m256i x)
{
    __m128i v = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4e));
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(v);
}

/* Eight at once, for s >= 31, where the scaled value fits 32 bits. 2^62 is added so that a logical shift will do. */
NQ_INLINE __m256i nq_requantize8(
    const __m256i x, const int32_t *multiplier, const int32_t *shift, const int32_t zero_point, const int32_t low,
    const int32_t high)
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
    const __m256i above = _mm256_max_epi32(level, _mm256_set1_epi32(low - zero_point));
    const __m256i inside = _mm256_min_epi32(above, _mm256_set1_epi32(high - zero_point));
    return _mm256_add_epi32(inside, _mm256_set1_epi32(zero_point));
}

/* Eight scaled values for s >= 33, of which `less` is s - 33: the low half of the product cannot reach the result, which
   is (floor(h / 2^less) + 1) >> 1 with h the high half. */
NQ_INLINE __m256i nq_high8(const __m256i x, const int32_t *multiplier, const int32_t *less)
{
    const __m256i even = _mm256_mul_epi32(x, _mm256_loadu_si256((const __m256i *)(const void *)multiplier));
    const __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(x, 32),
                                         _mm256_loadu_si256((const __m256i *)(const void *)(multiplier + 1)));
    const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    const __m256i twice = _mm256_srav_epi32(high, _mm256_loadu_si256((const __m256i *)(const void *)less));
    return _mm256_srai_epi32(_mm256_add_epi32(twice, _mm256_set1_epi32(1)), 1);
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

/* Four times eight of them as bytes. Each step saturates, so clamping is left to the bytes. */
NQ_INLINE __m256i nq_bytes32(const __m256i *v, const int32_t zero_point, const int32_t low, const int32_t high)
{
    const __m256i zero = _mm256_set1_epi16((short)zero_point);
    __m256i first = _mm256_packs_epi32(v[0], v[1]), second = _mm256_packs_epi32(v[2], v[3]);
    if (zero_point != 0) {
        first = _mm256_adds_epi16(first, zero);
        second = _mm256_adds_epi16(second, zero);
    }
    const __m256i mixed = low < 0 ? _mm256_packs_epi16(first, second) : _mm256_packus_epi16(first, second);
    return nq_clamp32(_mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)), low, high);
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

/* V vectors of accumulators, the first `keep` of their entries. */
NQ_INLINE void nq_store_tile(
    void *y, const int place, const __m256i *acc, const int V, const int keep, const int store,
    const int32_t *multiplier, const int32_t *shift, const int32_t zero_point, const int32_t low, const int32_t high)
{
    unsigned char *const bytes = (unsigned char *)y + place;
    if (store == NQ_ACCUMULATOR) {
        NQ_UNROLL
        for (int v = 0; v < V; ++v) nq_store32((int32_t *)y + place + 8 * v, acc[v], keep - 8 * v);
    } else if (store == NQ_BYTES) {
        NQ_UNROLL
        for (int v = 0; v < V; ++v)
            nq_store8(bytes + 8 * v,
                      nq_requantize8(acc[v], multiplier + 8 * v, shift + 8 * v, zero_point, low, high), keep - 8 * v);
    } else {
        NQ_UNROLL
        for (int v = 0; v < V; v += 4) {
            __m256i scaled[4];
            NQ_UNROLL
            for (int i = 0; i < 4; ++i)
                scaled[i] = v + i < V ? nq_high8(acc[v + i], multiplier + 8 * (v + i), shift + 8 * (v + i))
                                      : _mm256_setzero_si256();
            const __m256i all = nq_bytes32(scaled, zero_point, low, high);
            unsigned char *const out = bytes + 8 * v;
            const int more = keep - 8 * v;
            if (more >= 32) {
                _mm256_storeu_si256((__m256i *)(void *)out, all);
            } else if (more == 16) {
                _mm_storeu_si128((__m128i *)(void *)out, _mm256_castsi256_si128(all));
            } else {
                unsigned char part[32];
                _mm256_storeu_si256((__m256i *)(void *)part, all);
                for (int i = 0; i < more; ++i) out[i] = part[i];
            }
        }
    }
}

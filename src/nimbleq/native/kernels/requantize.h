/* clamp(((int64)x M + 2^(s-1)) >> s + zero point), s in 1..62. */
NQ_INLINE int32_t nq_requantize(
    const int32_t x, const int32_t multiplier, const int32_t shift, const int32_t zero_point, const int32_t low,
    const int32_t high)
{
    const int64_t scaled = ((int64_t)x * multiplier + ((int64_t)1 << (shift - 1))) >> shift;
    const int64_t level = scaled + zero_point;
    return level < low ? low : level > high ? high : (int32_t)level;
}

#if NQ_AVX2
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
#endif

/* Where accumulators go: NQ_ACCUMULATOR stores int32; NQ_BYTES requantizes (s >= 31) and stores one byte each. */
enum { NQ_ACCUMULATOR, NQ_BYTES };

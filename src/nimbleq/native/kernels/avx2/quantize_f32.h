/* As nq_quantize, four at a time, into bytes; scales and zero points have whole vectors of four. */
NQ_INLINE void nq_quantize_bytes(
    const float *x, const float *inverse_scale, const int32_t *zero_point, unsigned char *y, const int count,
    const int32_t low, const int32_t high)
{
    const __m256d least = _mm256_set1_pd(low), most = _mm256_set1_pd(high), half = _mm256_set1_pd(0.5);
    for (int i = 0; i < count; i += 4) {
        const __m256d zero = _mm256_cvtepi32_pd(_mm_loadu_si128((const __m128i *)(const void *)(zero_point + i)));
        const __m256d scale = _mm256_cvtps_pd(_mm_loadu_ps(inverse_scale + i));
        const __m128i kept = _mm_cmpgt_epi32(_mm_set1_epi32(count - i), _mm_setr_epi32(0, 1, 2, 3));
        const __m128 four = count - i < 4 ? _mm_maskload_ps(x + i, kept) : _mm_loadu_ps(x + i);
        const __m256d level = _mm256_add_pd(_mm256_mul_pd(_mm256_cvtps_pd(four), scale), half);
        const __m256d from = _mm256_sub_pd(least, zero), to = _mm256_sub_pd(most, zero);
        const __m256d inside = _mm256_floor_pd(_mm256_min_pd(_mm256_max_pd(level, from), to));
        const __m128i whole = _mm256_cvtpd_epi32(_mm256_add_pd(inside, zero));
        const __m128i bytes = _mm_shuffle_epi8(whole, _mm_set1_epi32(0x0c080400));
        *(nq_i32u *)(void *)(y + i) = _mm_cvtsi128_si32(bytes);
    }
}

/* Levels of the four numbers from x + i on, of which those from `count` on are not read. */
NQ_INLINE __m128i nq_levels4(
    const float *x, const float *inverse_scale, const int32_t *zero_point, const int i, const int count,
    const int32_t low, const int32_t high)
{
    const __m256d zero = _mm256_cvtepi32_pd(_mm_loadu_si128((const __m128i *)(const void *)(zero_point + i)));
    const __m256d scale = _mm256_cvtps_pd(_mm_loadu_ps(inverse_scale + i));
    const __m128i kept = _mm_cmpgt_epi32(_mm_set1_epi32(count - i), _mm_setr_epi32(0, 1, 2, 3));
    const __m128 four = count - i < 4 ? _mm_maskload_ps(x + i, kept) : _mm_loadu_ps(x + i);
    const __m256d level = _mm256_add_pd(_mm256_mul_pd(_mm256_cvtps_pd(four), scale), _mm256_set1_pd(0.5));
    const __m256d from = _mm256_sub_pd(_mm256_set1_pd(low), zero), to = _mm256_sub_pd(_mm256_set1_pd(high), zero);
    const __m256d inside = _mm256_floor_pd(_mm256_min_pd(_mm256_max_pd(level, from), to));
    return _mm256_cvtpd_epi32(_mm256_add_pd(inside, zero));
}

/* As nq_quantize, sixteen at a time, into bytes or int16 (`size`): what is read together later has to be written together.
   Scales and zero points have whole vectors of four, y of sixteen. */
NQ_INLINE void nq_quantize_f32(
    const float *x, const float *inverse_scale, const int32_t *zero_point, void *y, const int size, const int count,
    const int32_t low, const int32_t high)
{
    for (int i = 0; i < count; i += 16) {
        __m128i four[4];
        NQ_UNROLL
        for (int j = 0; j < 4; ++j)
            four[j] = i + 4 * j < count ? nq_levels4(x, inverse_scale, zero_point, i + 4 * j, count, low, high)
                                        : _mm_setzero_si128();
        const __m128i first = _mm_packs_epi32(four[0], four[1]), second = _mm_packs_epi32(four[2], four[3]);
        __m128i *const out = (__m128i *)(void *)((unsigned char *)y + i * size);
        if (size == 2) _mm256_storeu_si256((__m256i *)(void *)out, _mm256_set_m128i(second, first));
        else _mm_storeu_si128(out, low < 0 ? _mm_packs_epi16(first, second) : _mm_packus_epi16(first, second));
    }
}

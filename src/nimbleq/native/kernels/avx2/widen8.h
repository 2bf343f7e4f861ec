/* Bytes as int16, whole vectors of 16: what is read together later has to be written together. */
NQ_INLINE void nq_widen_u8(const uint8_t *x, const int count, int16_t *value)
{
    for (int i = 0; i < count; i += 16)
        _mm256_storeu_si256((__m256i *)(void *)(value + i),
                            _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(x + i))));
}

NQ_INLINE void nq_widen_i8(const int8_t *x, const int count, int16_t *value)
{
    for (int i = 0; i < count; i += 16)
        _mm256_storeu_si256((__m256i *)(void *)(value + i),
                            _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(x + i))));
}

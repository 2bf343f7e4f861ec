/* int32 accumulators of W x + b, int8 weights, x as int16 (compressed to its non-zeros when `sparse`).
   Weights in tiles of T groups of 16 outputs: [tile][in][16 T]. Two rows at a time are interleaved on the way into the
   registers, so that any two non-zero inputs share one multiply-add. `count` is even: the caller adds a zero at the end
   if it has to. */
NQ_INLINE void nq_linear_tile_i8(
    const int16_t *x, const int32_t *row, const int count, const int sparse, void *y, const int8_t *w, const int32_t *b,
    const int T, const int store, const int32_t *multiplier, const int32_t *shift, const int32_t zero_point,
    const int32_t low, const int32_t high)
{
    __m256i acc[8];
    NQ_UNROLL
    for (int a = 0; a < 2 * T; ++a) acc[a] = _mm256_loadu_si256((const __m256i *)(const void *)(b + 8 * a));
    for (int k = 0; k < count; k += 2) {
        const int8_t *first = w + (size_t)(sparse ? row[k] : k) * (size_t)(16 * T);
        const int8_t *second = w + (size_t)(sparse ? row[k + 1] : k + 1) * (size_t)(16 * T);
        const int32_t both = nq_load_i32(x + k);
        const __m256i xs = _mm256_set1_epi32(both);
        NQ_UNROLL
        for (int t = 0; t < T; ++t) {
            const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)(first + 16 * t));
            const __m128i c = _mm_loadu_si128((const __m128i *)(const void *)(second + 16 * t));
            const __m256i lo = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, c));
            const __m256i hi = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(a, c));
            acc[2 * t] = _mm256_add_epi32(acc[2 * t], _mm256_madd_epi16(lo, xs));
            acc[2 * t + 1] = _mm256_add_epi32(acc[2 * t + 1], _mm256_madd_epi16(hi, xs));
        }
    }
    nq_store_tile(y, 0, acc, 2 * T, 16 * T, store, multiplier, shift, zero_point, low, high);
}

/* y[o] = w[o] . x + b[o] for few outputs, dense. Rows of w are `stride` apart. */
NQ_INLINE void nq_linear_dot_i8(
    const int16_t *x, const int8_t *w, const int32_t *b, int32_t *y, const int n_in, const int n_out, const int stride)
{
    const int whole = n_in / 16 * 16;
    uint32_t total[8];
    for (int o = 0; o < n_out; ++o) total[o] = (uint32_t)b[o];
    __m256i acc[8];
    NQ_UNROLL
    for (int o = 0; o < n_out; ++o) acc[o] = _mm256_setzero_si256();
    for (int k = 0; k < whole; k += 16) {
        const __m256i part = _mm256_loadu_si256((const __m256i *)(const void *)(x + k));
        NQ_UNROLL
        for (int o = 0; o < n_out; ++o) {
            const __m128i line = _mm_loadu_si128((const __m128i *)(const void *)(w + o * stride + k));
            acc[o] = _mm256_add_epi32(acc[o], _mm256_madd_epi16(_mm256_cvtepi8_epi16(line), part));
        }
    }
    NQ_UNROLL
    for (int o = 0; o < n_out; ++o) total[o] += nq_sum8(acc[o]);
    for (int o = 0; o < n_out; ++o) {
        for (int k = whole; k < n_in; ++k) total[o] += (uint32_t)((int32_t)x[k] * w[o * stride + k]);
        y[o] = (int32_t)total[o];
    }
}

/* Non-zeros of bytes as int16 and their places, without branches, made even with a zero; room for count + 8 entries. */
NQ_INLINE int nq_nonzero_u8(const uint8_t *x, const int count, int16_t *value, int32_t *row)
{
    int n = 0, i = 0;
    for (; i + 8 <= count; i += 8) {
        uint64_t found;
        const int more = nq_nonzero8(x, i, &found, row + n);
        const __m128i values = _mm_cvtsi64_si128((long long)found);
        _mm_storeu_si128((__m128i *)(void *)(value + n), _mm_cvtepu8_epi16(values));
        n += more;
    }
    for (; i < count; ++i) {
        value[n] = x[i];
        row[n] = i;
        n += x[i] != 0;
    }
    value[n] = 0;
    row[n] = 0;
    return (n + 1) / 2 * 2;
}

/* int32 sums of W x + b, int8 weights, x as int16 (compressed to its non-zeros when `sparse`), `sum` of all x.
   A lane of 16 bits holds the weights of two outputs a and b of one row: 256 b + (a + 128). The lane times x sums up to
   P = 256 Q + A + 128 sum, its upper byte times x to Q, the sum of b; so A, the sum of a, follows at the end. Everything
   is modulo 2^32. Tiles of T groups of 32 outputs: [tile][in][32 T], where two rows at a time are interleaved on the way
   into the registers, so that any two non-zero inputs share a multiply-add; without `sparse` they are stored so,
   [tile][in / 2][64 T]. Within a group the columns lie so that the sums come out in order. `count` is even: the caller
   adds a zero at the end if it has to. */
NQ_INLINE void nq_linear_tile_i8(
    const int16_t *x, const int32_t *row, const int count, const int32_t sum, const int sparse, void *y, const int8_t *w,
    const int32_t *b, const int T, const nq_store how)
{
    nq_acc8 acc[8];
    NQ_UNROLL
    for (int a = 0; a < 4 * T; ++a) acc[a] = (nq_acc8){0, 0, 0, 0, 0, 0, 0, 0};
    NQ_ROLLED
    for (int k = 0; k < count; k += 2) {
        const int8_t *first = w + (size_t)(sparse ? row[k] : k) * (size_t)(32 * T);
        const int8_t *second = w + (size_t)(sparse ? row[k + 1] : k + 1) * (size_t)(32 * T);
        const __m256i xs = _mm256_set1_epi32(nq_load_i32(x + k));
        NQ_UNROLL
        for (int t = 0; t < T; ++t) {
            __m256i line[2];
            if (sparse) {
                const __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(first + 32 * t));
                const __m256i c = _mm256_loadu_si256((const __m256i *)(const void *)(second + 32 * t));
                line[0] = _mm256_unpacklo_epi16(a, c);
                line[1] = _mm256_unpackhi_epi16(a, c);
            } else {
                line[0] = _mm256_loadu_si256((const __m256i *)(const void *)(first + 64 * t));
                line[1] = _mm256_loadu_si256((const __m256i *)(const void *)(first + 64 * t + 32));
            }
            NQ_UNROLL
            for (int h = 0; h < 2; ++h) {
                nq_acc8 *const both = acc + 4 * t + h, *const upper = both + 2;
                *both += (nq_acc8)_mm256_madd_epi16(line[h], xs);
                *upper += (nq_acc8)_mm256_madd_epi16(_mm256_srai_epi16(line[h], 8), xs);
            }
        }
    }
    NQ_UNROLL
    for (int t = 0; t < T; ++t) {
        NQ_UNROLL
        for (int h = 0; h < 2; ++h) {
            nq_acc8 *const both = acc + 4 * t + h, *const upper = both + 2;
            const int32_t *const bias = b + 8 * (4 * t + h);
            *both += nq_load_acc8(bias) - (*upper << 8) - ((uint32_t)sum << 7);
            *upper += nq_load_acc8(bias + 16);
        }
    }
    nq_store_tile(y, 0, acc, 4 * T, 32 * T, how);
}

/* y[o] = w[o] . x + b[o] for few outputs, dense. Rows of w are `stride` apart. */
NQ_INLINE void nq_linear_dot_i8(
    const int16_t *x, const int8_t *w, const int32_t *b, int32_t *y, const int n_in, const int n_out, const int stride)
{
    const int whole = n_in / 16 * 16;
    uint32_t total[8];
    for (int o = 0; o < n_out; ++o) total[o] = (uint32_t)b[o];
    nq_acc8 acc[8];
    NQ_UNROLL
    for (int o = 0; o < n_out; ++o) acc[o] = (nq_acc8){0, 0, 0, 0, 0, 0, 0, 0};
    for (int k = 0; k < whole; k += 16) {
        const __m256i part = _mm256_loadu_si256((const __m256i *)(const void *)(x + k));
        NQ_UNROLL
        for (int o = 0; o < n_out; ++o) {
            const __m128i line = _mm_loadu_si128((const __m128i *)(const void *)(w + o * stride + k));
            acc[o] += (nq_acc8)_mm256_madd_epi16(_mm256_cvtepi8_epi16(line), part);
        }
    }
    NQ_UNROLL
    for (int o = 0; o < n_out; ++o) total[o] += nq_sum8(acc[o]);
    for (int o = 0; o < n_out; ++o) {
        for (int k = whole; k < n_in; ++k) total[o] += (uint32_t)((int32_t)x[k] * w[o * stride + k]);
        y[o] = (int32_t)total[o];
    }
}

/* The sum of inputs. */
NQ_INLINE int32_t nq_sum_i16(const int16_t *x, const int count)
{
    uint32_t sum = 0;
    for (int i = 0; i < count; ++i) {
        const int32_t one = x[i];
        sum += (uint32_t)one;
    }
    return (int32_t)sum;
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

/* int32 sums of W x + b over the non-zeros of bytes x (0..h), compressed by nq_nonzero_bytes. Weights in tiles of T
   groups of 32 outputs: [tile][in][32 T]; four rows are interleaved on the way into the registers. Unpacking leaves the
   outputs of a group in an order of its own; the columns are stored so that the sums come out in
   order. Whoever writes the weights proves that any two weights of one output satisfy h * (their sum) <= 32767, and
   h * -(their sum) <= 32768, so a sum of two products fits int16. `count` is a multiple of 4. */
NQ_INLINE void nq_linear_rows_u8(
    const uint8_t *x, const int32_t *row, const int count, void *y, const int8_t *w, const int32_t *b, const int T,
    const nq_store how)
{
    const __m256i ones = _mm256_set1_epi16(1);
    nq_acc8 acc[8];
    NQ_UNROLL
    for (int a = 0; a < 4 * T; ++a) acc[a] = nq_load_acc8(b + 8 * a);
    for (int k = 0; k < count; k += 4) {
        const int32_t four = nq_load_i32(x + k);
        const __m256i xs = _mm256_set1_epi32(four);
        const int8_t *line[4];
        NQ_UNROLL
        for (int i = 0; i < 4; ++i) line[i] = w + (size_t)row[k + i] * (size_t)(32 * T);
        NQ_UNROLL
        for (int t = 0; t < T; ++t) {
            __m256i part[4], quad[4];
            NQ_UNROLL
            for (int i = 0; i < 4; ++i)
                part[i] = _mm256_loadu_si256((const __m256i *)(const void *)(line[i] + 32 * t));
            const __m256i ab_low = _mm256_unpacklo_epi8(part[0], part[1]);
            const __m256i cd_low = _mm256_unpacklo_epi8(part[2], part[3]);
            const __m256i ab_high = _mm256_unpackhi_epi8(part[0], part[1]);
            const __m256i cd_high = _mm256_unpackhi_epi8(part[2], part[3]);
            quad[0] = _mm256_unpacklo_epi16(ab_low, cd_low);
            quad[1] = _mm256_unpackhi_epi16(ab_low, cd_low);
            quad[2] = _mm256_unpacklo_epi16(ab_high, cd_high);
            quad[3] = _mm256_unpackhi_epi16(ab_high, cd_high);
            NQ_UNROLL
            for (int i = 0; i < 4; ++i) {
                const __m256i sum = _mm256_madd_epi16(_mm256_maddubs_epi16(xs, quad[i]), ones);
                acc[4 * t + i] += (nq_acc8)sum;
            }
        }
    }
    nq_store_tile(y, 0, acc, 4 * T, 32 * T, how);
}

/* Non-zeros of bytes and their places, without branches, filled up with zeros to a multiple of 4; room for count + 8
   entries. */
NQ_INLINE int nq_nonzero_bytes(const uint8_t *x, const int count, uint8_t *value, int32_t *row)
{
    int n = 0, i = 0;
    for (; i + 8 <= count; i += 8) {
        uint64_t found;
        const int more = nq_nonzero8(x, i, &found, row + n);
        *(nq_u64u *)(void *)(value + n) = found;
        n += more;
    }
    for (; i < count; ++i) {
        value[n] = x[i];
        row[n] = i;
        n += x[i] != 0;
    }
    for (int k = n; k < n + 4; ++k) {
        value[k] = 0;
        row[k] = 0;
    }
    return (n + 3) / 4 * 4;
}

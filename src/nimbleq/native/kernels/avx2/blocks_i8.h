/* Sums of W x + b where most blocks of 16 outputs x 1 input are zero: only the others are there, for each 16 outputs two
   at a time (`twos`), with the inputs that they read. Weights [pair][16][2]; lists are filled up with zeros. */
NQ_INLINE void nq_linear_blocks_i8(
    const int16_t *x, const uint16_t *column, const uint16_t *twos, const int8_t *w, const int32_t *b, void *y,
    const int blocks, const int size, const nq_store how)
{
    for (int o = 0; o < blocks; ++o) {
        nq_acc8 acc[2];
        NQ_UNROLL
        for (int v = 0; v < 2; ++v) acc[v] = nq_load_acc8(b + 16 * o + 8 * v);
        for (int n = twos[o]; n > 0; --n, column += 2, w += 32) {
            const uint32_t both = (uint16_t)x[column[0]] | (uint32_t)(uint16_t)x[column[1]] << 16;
            const __m256i xs = _mm256_set1_epi32((int32_t)both);
            NQ_UNROLL
            for (int v = 0; v < 2; ++v) {
                const __m256i line =
                    _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(w + 16 * v)));
                acc[v] += (nq_acc8)_mm256_madd_epi16(line, xs);
            }
        }
        nq_store part = how;
        if (how.multiplier) part.multiplier += 16 * o;
        if (how.shift) part.shift += 16 * o;
        if (how.rounding) part.rounding += 16 * o;
        nq_store_tile((unsigned char *)y + 16 * o * size, 0, acc, 2, 16, part);
    }
}

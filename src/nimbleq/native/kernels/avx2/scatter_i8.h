/* As nq_scatter_f32 with int8 weights, stored as int32, whose low half is multiplied; inputs are below 2^15. */
NQ_INLINE void nq_scatter_i8(
    const int32_t *value, const int32_t *row, const int count, const int32_t *place, const int32_t *from,
    const int32_t *w, int32_t *grid, const int lines, const int run, const int step)
{
    for (int n = 0; n < count; ++n) {
        const __m256i x = _mm256_set1_epi32(value[n]);
        const int32_t *line = w + (from ? from[row[n]] : row[n] * run);
        int32_t *sum = grid + (place ? place[row[n]] : 0);
        for (int a = 0; a < lines; ++a, line += run, sum += step) {
            NQ_UNROLL
            for (int i = 0; i < run; i += 8) {
                __m256i *const to = (__m256i *)(void *)(sum + i);
                const __m256i by = _mm256_loadu_si256((const __m256i *)(const void *)(line + i));
                _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), _mm256_madd_epi16(by, x)));
            }
        }
    }
}

NQ_INLINE void nq_begin_i32(int32_t *grid, const int32_t *b, const int pixels, const int width)
{
    for (int p = 0; p < pixels; ++p, grid += width) {
        NQ_UNROLL
        for (int o = 0; o < width; o += 8)
            _mm256_storeu_si256((__m256i *)(void *)(grid + o), _mm256_loadu_si256((const __m256i *)(const void *)(b + o)));
    }
}

/* V vectors of every output pixel out of the grid, of which `keep` sums count. */
NQ_INLINE void nq_end_i8(
    const int32_t *grid, void *y, const int rows, const int cols, const int channels, const int width, const int step,
    const int V, const int keep, const nq_store how)
{
    for (int r = 0; r < rows; ++r) {
        for (int s = 0; s < cols; ++s) {
            nq_acc8 acc[2];
            NQ_UNROLL
            for (int v = 0; v < V; ++v) acc[v] = nq_load_acc8(grid + r * step + s * width + 8 * v);
            nq_store_tile(y, (r * cols + s) * channels, acc, V, keep, how);
        }
    }
}

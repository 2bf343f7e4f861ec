/* y = act(W x + b) where most blocks of 8 outputs x 1 input are zero: only the others are there, for each 8 outputs four
   at a time (`fours`), with the input that each reads. Lists are filled up with zeros. */
NQ_INLINE void nq_linear_blocks_f32(
    const float *x, const uint16_t *column, const uint16_t *fours, const float *w, const float *b, float *y,
    const int blocks, const int function, const float low, const float high)
{
    for (int o = 0; o < blocks; ++o) {
        nq_f8 acc[4] = {nq_load8(b + 8 * o)};
        for (int n = fours[o]; n > 0; --n, column += 4, w += 32) {
            NQ_UNROLL
            for (int u = 0; u < 4; ++u) acc[u] = nq_fma8(acc[u], nq_all8(x[column[u]]), nq_load8(w + 8 * u));
        }
        acc[0] = (acc[0] + acc[1]) + (acc[2] + acc[3]);
        nq_activate8(&acc[0], function, low, high);
        nq_store_f8(y + 8 * o, acc[0]);
    }
}

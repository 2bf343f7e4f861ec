/* As nq_argmax_i32, by arithmetic that compilers leave without branches. */
static inline int nq_argmax_steady_i32(const int32_t *x, const int count)
{
    int best = 0;
    for (int i = 1; i < count; ++i) best += (int)(((int64_t)x[best] - x[i]) >> 63) & (i - best);
    return best;
}

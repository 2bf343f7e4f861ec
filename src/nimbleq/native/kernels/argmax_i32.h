/* Index of the largest entry, the lowest index on ties. */
static inline int nq_argmax_i32(const int32_t *x, const int count)
{
    int best = 0;
    for (int i = 1; i < count; ++i) best = x[i] > x[best] ? i : best;
    return best;
}

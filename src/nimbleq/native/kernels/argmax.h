/* Index of the largest entry, the lowest index on ties. */
NQ_INLINE int nq_argmax_i32(const int32_t *x, const int count)
{
    int best = 0;
    for (int i = 1; i < count; ++i) best = x[i] > x[best] ? i : best;
    return best;
}

/* The same on floats; the first NaN wins, as in numpy. */
NQ_INLINE int nq_argmax_f32(const float *x, const int count)
{
    int best = 0;
    for (int i = 1; i < count; ++i)
        if (x[i] > x[best] || (x[i] != x[i] && x[best] == x[best])) best = i;
    return best;
}

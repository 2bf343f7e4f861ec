/* Finite floats as integers in the same order; both zeros are one. */
static inline int32_t nq_ordered(const float x)
{
    union { float real; int32_t bits; } whole;
    whole.real = x + 0.0f;
    return whole.bits ^ (int32_t)((uint32_t)(whole.bits >> 31) >> 1);
}

/* As nq_argmax_f32, by arithmetic that compilers leave without branches. */
static inline int nq_argmax_steady_f32(const float *x, const int count)
{
    int best = 0;
    for (int i = 1; i < count; ++i)
        best += (int)(((int64_t)nq_ordered(x[best]) - nq_ordered(x[i])) >> 63) & (i - best);
    return best;
}

/* Index of the largest entry that the mask allows (not 0), the lowest index on ties; -1 when it allows none. */
static inline int nq_argmax_masked_i32(const int32_t *x, const uint8_t *mask, const int count)
{
    int best = -1;
    for (int i = 0; i < count; ++i)
        if (mask[i] != 0 && (best < 0 || x[i] > x[best])) best = i;
    return best;
}

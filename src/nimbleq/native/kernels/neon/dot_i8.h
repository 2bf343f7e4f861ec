/* The sum of products of int8 and int8 weights, 16 at a time. */
static inline uint32_t nq_dot_i8(const int8_t *x, const NQ_FLASH int8_t *w, const int count)
{
    int32x4_t sum = vdupq_n_s32(0);
    int k = 0;
    for (; k + 16 <= count; k += 16) sum = vdotq_s32(sum, vld1q_s8(x + k), vld1q_s8(w + k));
    uint32_t total = (uint32_t)vaddvq_s32(sum);
    for (; k < count; ++k) total += (uint32_t)((int32_t)x[k] * w[k]);
    return total;
}

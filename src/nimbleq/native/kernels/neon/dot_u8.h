/* The sum of products of bytes and int8 weights, 16 at a time. `sdot` takes signed bytes: x - 128 in place of x, and 128
   times the sum of the weights afterwards. */
static inline uint32_t nq_dot_u8(const uint8_t *x, const NQ_FLASH int8_t *w, const int count)
{
    int32x4_t sum = vdupq_n_s32(0), weights = vdupq_n_s32(0);
    int k = 0;
    for (; k + 16 <= count; k += 16) {
        const int8x16_t line = vld1q_s8(w + k);
        sum = vdotq_s32(sum, vreinterpretq_s8_u8(veorq_u8(vld1q_u8(x + k), vdupq_n_u8(128))), line);
        weights = vdotq_s32(weights, vdupq_n_s8(1), line);
    }
    uint32_t total = (uint32_t)vaddvq_s32(vaddq_s32(sum, vshlq_n_s32(weights, 7)));
    for (; k < count; ++k) total += (uint32_t)((int32_t)x[k] * w[k]);
    return total;
}

/* The sum of products of bytes and int8 weights, four at a time: two pairs of 16 bits, each a multiply-add. */
static inline uint32_t nq_dot_u8(const uint8_t *x, const NQ_FLASH int8_t *w, const int count)
{
    int32_t sum = 0;
    int k = 0;
    for (; k + 4 <= count; k += 4) {
        uint32_t four, line;
        __builtin_memcpy(&four, x + k, 4);
        __builtin_memcpy(&line, w + k, 4);
        sum = __smlad((int16x2_t)__uxtb16((uint8x4_t)four), __sxtb16((int8x4_t)line), sum);
        four = four >> 8 | four << 24;
        line = line >> 8 | line << 24;
        sum = __smlad((int16x2_t)__uxtb16((uint8x4_t)four), __sxtb16((int8x4_t)line), sum);
    }
    uint32_t total = (uint32_t)sum;
    for (; k < count; ++k) total += (uint32_t)((int32_t)x[k] * w[k]);
    return total;
}

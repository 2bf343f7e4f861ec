/* Number i of -1, 0 and 1, five a byte: digit k of byte b is the high byte of 3 (b 3^k mod 256), less 1. */
static inline int32_t nq_ternary(const NQ_FLASH uint8_t *codes, const uint32_t i)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    const uint32_t digit = (uint32_t)codes[i / 5u] * power[i % 5u] & 255u;
    return (int32_t)(digit * 3u >> 8) - 1;
}

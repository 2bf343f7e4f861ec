/* x times number i of 0 and +-2^k, without multiplying: the highest bit of a code is the sign, the others k + 1, or 0. */
static inline uint32_t nq_times_log2(const int32_t x, const NQ_FLASH uint8_t *codes, const uint32_t i, const uint32_t bits)
{
    const uint32_t code = nq_code(codes, i, bits), sign = (uint32_t)1 << (bits - 1u), place = code & (sign - 1u);
    const uint32_t product = place != 0u ? (uint32_t)x << (place - 1u) : 0u;
    return code & sign ? 0u - product : product;
}

/* Number i of 0 and +-2^k: the highest bit of a code is the sign, the others are k + 1, or 0. */
static inline int32_t nq_log2(const NQ_FLASH uint8_t *codes, const uint32_t i, const uint32_t bits)
{
    const uint32_t code = nq_code(codes, i, bits), sign = (uint32_t)1 << (bits - 1u);
    const int32_t magnitude = (int32_t)(((uint32_t)1 << (code & (sign - 1u))) >> 1);
    return code & sign ? -magnitude : magnitude;
}

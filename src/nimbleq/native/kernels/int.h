/* Code number i as an integer in two's complement. */
static inline int32_t nq_int(const NQ_FLASH uint8_t *codes, const uint32_t i, const uint32_t bits)
{
    const uint32_t sign = (uint32_t)1 << (bits - 1u);
    return (int32_t)(nq_code(codes, i, bits) ^ sign) - (int32_t)sign;
}

/* Number i of +-(a + b): the highest bit of a code is the sign, the next two say a of 0, 1, 4, 8, the last b of 0, 2. */
static inline int32_t nq_apot4(const NQ_FLASH uint8_t *codes, const uint32_t i)
{
    const uint32_t code = nq_code(codes, i, 4u);
    const int32_t magnitude = (int32_t)(0xa8643120u >> 4u * (code & 7u) & 15u);
    return code & 8u ? -magnitude : magnitude;
}

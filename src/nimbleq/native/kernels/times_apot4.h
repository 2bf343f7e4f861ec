/* x times number i of +-(a + b), without multiplying: the highest bit of a code is the sign, the next two say a of 0, 1,
   4, 8, the last b of 0, 2. */
static inline uint32_t nq_times_apot4(const int32_t x, const NQ_FLASH uint8_t *codes, const uint32_t i)
{
    const uint32_t code = nq_code(codes, i, 4u), a = code >> 1 & 3u;
    uint32_t product = a != 0u ? (uint32_t)x << (a == 1u ? 0u : a) : 0u;
    if (code & 1u) product += (uint32_t)x << 1;
    return code & 8u ? 0u - product : product;
}

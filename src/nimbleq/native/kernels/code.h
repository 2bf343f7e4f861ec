/* Code number i of `bits` <= 8 each, packed without gaps, the first in the lowest bits. Reads no byte behind the last. */
static inline uint32_t nq_code(const NQ_FLASH uint8_t *codes, const uint32_t i, const uint32_t bits)
{
    const uint32_t start = i * bits, shift = start & 7u;
    uint32_t code = (uint32_t)codes[start >> 3] >> shift;
    if (shift + bits > 8u) code |= (uint32_t)codes[(start + bits - 1u) >> 3] << (8u - shift);
    return code & (((uint32_t)1 << bits) - 1u);
}

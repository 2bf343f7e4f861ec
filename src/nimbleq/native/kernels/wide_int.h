/* Number i of `bits` <= 32 each in two's complement, packed without gaps, the first in the lowest bits. */
static inline int32_t nq_wide_int(const NQ_FLASH uint8_t *codes, const uint32_t i, const uint32_t bits)
{
    const uint32_t sign = (uint32_t)1 << (bits - 1u);
    uint32_t start = i * bits, done = 0, value = 0;
    while (done < bits) {
        const uint32_t shift = start & 7u;
        value |= ((uint32_t)codes[start >> 3] >> shift) << done;
        done += 8u - shift;
        start += 8u - shift;
    }
    value &= sign | (sign - 1u);
    value = (value ^ sign) - sign;
    return value < 0x80000000u ? (int32_t)value : -(int32_t)(0xffffffffu - value) - 1;
}

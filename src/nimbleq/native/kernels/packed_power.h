/* Code number i as the power of two 2^(code + least). */
static inline float nq_power(const uint8_t *codes, const uint32_t i, const uint32_t bits, const int32_t least)
{
    union { uint32_t bits; float real; } power;
    power.bits = (uint32_t)((int32_t)nq_code(codes, i, bits) + least + 127) << 23;
    return power.real;
}

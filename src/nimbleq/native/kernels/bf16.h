/* A float32 from its upper half. */
static inline float nq_bf16(const uint16_t code)
{
    union { uint32_t bits; float real; } whole;
    whole.bits = (uint32_t)code << 16;
    return whole.real;
}

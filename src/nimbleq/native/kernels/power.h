/* 2^exponent, for exponents -126 to 127. */
static inline float nq_power(const int32_t exponent)
{
    union { uint32_t bits; float real; } whole;
    whole.bits = (uint32_t)(exponent + 127) << 23;
    return whole.real;
}

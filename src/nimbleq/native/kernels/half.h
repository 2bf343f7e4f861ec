/* The float of an IEEE half, given as its bits; exact. */
static float nq_half(const uint16_t bits)
{
    union { float real; uint32_t bits; } made;
    const uint32_t sign = (uint32_t)(bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, mantissa = bits & 1023u;
    if (exponent == 0) { /* zero, or so small that it is a number of 2^-24 */
        made.real = (float)mantissa * 5.9604644775390625e-8f;
        made.bits |= sign;
    } else
        made.bits = sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | mantissa << 13;
    return made.real;
}

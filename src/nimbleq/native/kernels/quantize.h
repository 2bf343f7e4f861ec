/* clamp(floor(x inverse_scale + 1/2) + zero_point, low, high), without any rounding in between. */
#if DBL_MANT_DIG >= 53 && (!defined(__arm__) || (defined(__ARM_FP) && __ARM_FP & 8))
/* The product has 48 bits, and adding 1/2 cannot move it past a whole number. It is clamped before it becomes an
   integer, so the conversion is always defined. */
static inline int32_t nq_quantize(
    const float x, const float inverse_scale, const int32_t zero_point, const int32_t low, const int32_t high)
{
    const double least = (double)low - zero_point, most = (double)high - zero_point;
    const double level = (double)x * (double)inverse_scale + 0.5;
    const double inside = level > least ? (level < most ? level : most) : least;
    int64_t whole = (int64_t)inside;
    whole -= (double)whole > inside;
    return (int32_t)(whole + zero_point);
}
#else
/* double has fewer bits here, or is made in software (Cortex-M4), so in integers: x inverse_scale = +-m 2^e. */
static int32_t nq_quantize(
    const float x, const float inverse_scale, const int32_t zero_point, const int32_t low, const int32_t high)
{
    union { float real; uint32_t bits; } one, other;
    one.real = x;
    other.real = inverse_scale;
    const int negative = ((one.bits ^ other.bits) >> 31) != 0;
    const int32_t exponent_one = (int32_t)(one.bits >> 23 & 255u), exponent_other = (int32_t)(other.bits >> 23 & 255u);
    const uint32_t mantissa_one = (one.bits & 0x7fffffu) | (exponent_one ? 0x800000u : 0u);
    const uint32_t mantissa_other = (other.bits & 0x7fffffu) | (exponent_other ? 0x800000u : 0u);
    const uint64_t m = (uint64_t)mantissa_one * mantissa_other;
    const int32_t e = (exponent_one ? exponent_one : 1) + (exponent_other ? exponent_other : 1) - 300;
    const int64_t most = (int64_t)1 << 34; /* beyond every clamp */
    int64_t level = 0;
    if (m != 0 && e >= 0)
        level = e > 34 || m >> (34 - e) != 0 ? most : (int64_t)(m << e);
    else if (e > -50)
        level = (int64_t)((m + ((uint64_t)1 << (-e - 1)) - (negative ? 1u : 0u)) >> -e);
    if (level > most) level = most;
    if (negative) level = -level;
    level += zero_point;
    return level < low ? low : level > high ? high : (int32_t)level;
}
#endif

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
/* double has fewer bits here, or is made in software (Cortex-M4), so in integers: x inverse_scale = +-m 2^-shift, where m
   holds the upper 31 bits of the product, the last of them set when anything below is. 2^28 is beyond every clamp. */
static int32_t nq_quantize(
    const float x, const float inverse_scale, const int32_t zero_point, const int32_t low, const int32_t high)
{
    union { float real; uint32_t bits; } one, other;
    one.real = x;
    other.real = inverse_scale;
    const int32_t exponent_one = (int32_t)(one.bits >> 23 & 255u), exponent_other = (int32_t)(other.bits >> 23 & 255u);
    const uint32_t mantissa_one = (one.bits & 0x7fffffu) | (exponent_one ? 0x800000u : 0u);
    const uint32_t mantissa_other = (other.bits & 0x7fffffu) | (exponent_other ? 0x800000u : 0u);
    const uint64_t product = (uint64_t)mantissa_one * mantissa_other;
    const uint32_t m = (uint32_t)(product >> 17) | (((uint32_t)product & 0x1ffffu) != 0);
    const int32_t shift = 283 - (exponent_one ? exponent_one : 1) - (exponent_other ? exponent_other : 1);
    const uint32_t negative = (one.bits ^ other.bits) >> 31;
    int32_t level = 0;
    if (shift < 2)
        level = (int32_t)1 << 28;
    else if (shift < 32)
        level = (int32_t)((m + ((uint32_t)1 << (shift - 1)) - (m ? negative : 0u)) >> shift);
    level = (negative ? -level : level) + zero_point;
    return level < low ? low : level > high ? high : level;
}
#endif

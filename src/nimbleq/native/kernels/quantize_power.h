/* clamp(floor(x 2^exponent + 1/2) + zero_point, low, high) of a finite x, with integers only; from is 149 - exponent,
   bounds and zero point lie below 2^22. */
static inline int32_t nq_quantize_power(
    const float x, const int32_t from, const int32_t zero_point, const int32_t low, const int32_t high)
{
    union { float real; uint32_t bits; } whole;
    uint32_t mantissa, negative;
    int32_t shift, level;
    whole.real = x;
    negative = whole.bits >> 31;
    mantissa = (whole.bits & 0x7fffffu) | 0x800000u;
    shift = from - (int32_t)(whole.bits >> 23 & 255u);
    if (shift < 0) { /* beyond every clamp */
        mantissa <<= 1;
        shift = 0;
    }
    if (shift > 25) shift = 25; /* to zero */
    level = (int32_t)((((mantissa - negative) >> shift) + 1) >> 1);
    level = (negative ? -level : level) + zero_point;
    return level < low ? low : level > high ? high : level;
}

/* nq_activate on eight. */
NQ_INLINE void nq_activate8(nq_f8 *v, const int function, const float low, const float high)
{
    const nq_f8 zero = {0, 0, 0, 0, 0, 0, 0, 0}, lows = zero + low, highs = zero + high, x = *v;
    if (function == NQ_RELU) {
        *v = (nq_f8)((nq_i8)x & (nq_i8)(x > zero));
    } else if (function == NQ_LEAKY_RELU) {
        const nq_i8 negative = (nq_i8)(x < zero);
        *v = (nq_f8)(((nq_i8)(x * lows) & negative) | ((nq_i8)x & ~negative));
    } else if (function == NQ_CLIP) {
        const nq_i8 below = (nq_i8)(x < lows), above = (nq_i8)(x > highs);
        *v = (nq_f8)(((nq_i8)lows & below) | ((nq_i8)highs & above) | ((nq_i8)x & ~below & ~above));
    }
}

/* value - offset in double, then as float: rounded twice, also where the processor computes with more bits. */
#if DBL_MANT_DIG < 53
#error "the offsets of this observation need a double of 64 bits"
#endif
static float nq_less(const double value, const double offset)
{
    const volatile double moved = value - offset;
    return (float)moved;
}

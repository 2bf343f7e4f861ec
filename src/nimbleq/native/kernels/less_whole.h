/* value - offset for a whole number given twice: modulo 2^64 and as double. The difference is exact below 2^53, also of
   numbers above that (nanoseconds since 1970). `whole` is the offset rounded to a whole number, modulo 2^64. */
#if DBL_MANT_DIG < 53
#error "the offsets of this observation need a double of 64 bits"
#endif
static float nq_less_whole(
    const uint64_t value, const double wide, const double offset, const double rounded, const uint64_t whole)
{
    const volatile double rough = wide - offset;
    volatile double moved = rough;
    if (rough > -9007199254740992.0 && rough < 9007199254740992.0) {
        const uint64_t steps = value - whole;
        const int64_t exact = steps >> 63 ? -(int64_t)~steps - 1 : (int64_t)steps;
        const volatile double rest = offset - rounded;
        moved = (double)exact - rest;
    }
    return (float)moved;
}

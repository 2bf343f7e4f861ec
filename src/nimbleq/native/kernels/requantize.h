/* >> of a negative number has to be arithmetic. */
typedef char nq_shifts_arithmetically[(int64_t)-1 >> 1 == -1 ? 1 : -1];

/* clamp(((int64)x M + 2^(s-1)) >> s + zero point), s in 1..62. */
static inline int32_t nq_requantize(
    const int32_t x, const int32_t multiplier, const int32_t shift, const int32_t zero_point, const int32_t low,
    const int32_t high)
{
    const int64_t scaled = ((int64_t)x * multiplier + ((int64_t)1 << (shift - 1))) >> shift;
    const int64_t level = scaled + zero_point;
    return level < low ? low : level > high ? high : (int32_t)level;
}

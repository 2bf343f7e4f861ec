/* >> of a negative number has to be arithmetic. */
typedef char nq_shifts_int32_arithmetically[(int32_t)-1 >> 1 == -1 ? 1 : -1];

/* clamp(((x + 2^(s-1)) >> s) + zero point): whoever calls it proves that the sum fits int32. */
static inline int32_t nq_shift(
    const int32_t x, const int32_t shift, const int32_t zero_point, const int32_t low, const int32_t high)
{
    const int32_t level = ((x + ((int32_t)1 << (shift - 1))) >> shift) + zero_point;
    return level < low ? low : level > high ? high : level;
}

/* An integer as float, rounded once, also where the processor computes with more bits than float has. */
static inline float nq_real(const int64_t level)
{
#if FLT_EVAL_METHOD == 0
    return (float)level;
#else
    const volatile float rounded = (float)level;
    return rounded;
#endif
}

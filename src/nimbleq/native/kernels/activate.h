static inline float nq_activate(const float x, const int function, const float low, const float high)
{
    if (function == NQ_RELU) return x > 0.0f ? x : 0.0f;
    if (function == NQ_LEAKY_RELU) return x < 0.0f ? x * low : x;
    if (function == NQ_CLIP) return x < low ? low : x > high ? high : x;
    return x;
}

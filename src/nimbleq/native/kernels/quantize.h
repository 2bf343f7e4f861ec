/* clamp(floor(x inverse_scale + 1/2) + zero_point, low, high); NaN gives low. The product is exact in double. It is
   clamped before it becomes an integer, so the conversion is always defined. */
NQ_INLINE int32_t nq_quantize(
    const float x, const float inverse_scale, const int32_t zero_point, const int32_t low, const int32_t high)
{
    const double least = (double)low - zero_point, most = (double)high - zero_point;
    const double level = (double)x * (double)inverse_scale + 0.5;
    const double inside = level > least ? (level < most ? level : most) : least;
    int64_t whole = (int64_t)inside;
    whole -= (double)whole > inside;
    return (int32_t)(whole + zero_point);
}

/* tanh(x) without libm, within 3e-7; near 0 the first terms of its series, where 1 - e would cancel. */
static float nq_tanh(const float x)
{
    const float size = x < 0.0f ? -x : x, e = nq_exp(-2.0f * size);
    const float square = x * x;
    const float value = size < 0.1f ? size * (1.0f - square * (0.33333333f - square * 0.13333333f)) : (1.0f - e) / (1.0f + e);
    return x < 0.0f ? -value : value;
}

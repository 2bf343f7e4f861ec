/* exp(x) for x <= 0 without libm, within 3e-7 of its value; 0 below -87. x = n ln 2 + r, |r| <= ln 2 / 2; Taylor to r^7. */
static float nq_exp(const float x)
{
    union { float real; uint32_t bits; } power;
    int32_t n;
    float r;
    if (!(x > -87.0f)) return 0.0f;
    n = (int32_t)(x * 1.44269504f - 0.5f);
    r = (x - (float)n * 0.693359375f) + (float)n * 2.12194440e-4f;
    power.bits = (uint32_t)(n + 127) << 23;
    r = 1.0f + r * (1.0f + r * (0.5f + r * (1.6666667e-1f + r * (4.1666667e-2f + r * (8.3333333e-3f
        + r * (1.3888889e-3f + r * 1.9841270e-4f))))));
    return r * power.real;
}

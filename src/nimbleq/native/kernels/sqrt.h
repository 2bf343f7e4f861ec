/* Square root without libm: an estimate from the exponent, then Newton steps to the last bit or the one before. */
static float nq_sqrt(const float x)
{
    union { float real; uint32_t bits; } estimate;
    float y;
    if (!(x > 0.0f) || x > 3.4e38f) return x;
    estimate.real = x;
    estimate.bits = 0x1fbd1df5u + (estimate.bits >> 1);
    y = estimate.real;
    for (int i = 0; i < 4; ++i) y = 0.5f * (y + x / y);
    return y;
}

/* The exponential function and the logarithm, LANES numbers at a time. NaN stays NaN. */
#ifndef NIMBLEQ_LEARNER_EXPONENTIAL_H
#define NIMBLEQ_LEARNER_EXPONENTIAL_H

#include "vec.h"

/* exp(x) for x <= 0, within 2 units in the last place; 0 below -87. (Cephes expf.) */
INLINE vf vexp(vf x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    const vi kept = ~(x <= -87.0f);
    x = choose(kept, x, splat(0));
    const vf shifted = x * 1.44269504f + shift, n = shifted - shift;
    x = x - n * 0.693359375f;
    x = x + n * 2.12194440e-4f;
    vf y = splat(1.9875691500e-4f);
    y = y * x + 1.3981999507e-3f;
    y = y * x + 8.3334519073e-3f;
    y = y * x + 4.1665795894e-2f;
    y = y * x + 1.6666665459e-1f;
    y = y * x + 5.0000001201e-1f;
    y = y * x * x + x + 1.0f;
    const vf power = (vf)(((vi)shifted - (vi)splat(shift) + 127) << 23);
    return (vf)((vi)(y * power) & kept);
}

/* log(x) for x > 0, no denormal: x = 2^e m with m about 1, and log m = 2 artanh((m - 1) / (m + 1)) as a series. */
INLINE vf vlog(vf x)
{
    const int32_t half_root = 0x3f3504f3; /* the bits of sqrt(1/2) */
    const vi above = (vi)x - half_root;
    const vf e = __builtin_convertvector(above >> 23, vf), m = (vf)((above & 0x7fffff) + half_root);
    const vf s = (m - 1.0f) / (m + 1.0f), t = s * s;
    vf y = splat(1.0f / 9);
    y = y * t + 1.0f / 7;
    y = y * t + 1.0f / 5;
    y = y * t + 1.0f / 3;
    y = y * t + 1.0f;
    y = e * 0.693359375f + (2.0f * s * y - e * 2.12194440e-4f);
    return choose(x == x, y, x);
}

#endif

/* KL(softmax(Q_T/τ) ‖ softmax(Q_S/τ)) + λ·Huber((A_S − A_T)/τ), with A = Q − mean Q, both over legal actions: its gradient,
 * LANES samples side by side. */
#ifndef NIMBLEQ_DISTILL_LOSS_H
#define NIMBLEQ_DISTILL_LOSS_H

#include "../learner/activation.h"
#include "student.h"

/* exp(x) for x <= 0, within 2 units in the last place; 0 below -87. (Cephes expf.) */
INLINE vf vexp(vf x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    const vi kept = x > -87.0f;
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

/* From q[A][CHUNK] to its gradient, in place, for one vector of samples at `s`; targets [2 A][CHUNK]. */
INLINE void loss_gradient(const Student *self, const Run *run, size_t size, size_t s)
{
    const size_t actions = self->options.width[self->options.layers] * CHUNK;
    const float inverse = (float)(1.0 / run->temperature), share = inverse / (float)size;
    const float *probability = self->targets + s, *advantage = probability + actions;
    float *q = self->q + s, *exponential = self->exponential + s;
    vf best = splat(-INFINITY), total = splat(0), count = splat(0), sum = splat(0), slopes = splat(0);
    for (size_t a = 0; a < actions; a += CHUNK) {
        const vi legal = load(probability + a) >= 0.0f;
        const vf z = load(q + a) * inverse;
        store(q + a, z);
        best = choose(legal & ~(z <= best), z, best);
        total += where(legal, z);
        count += where(legal, splat(1));
    }
    const vf mean = total / count;
    for (size_t a = 0; a < actions; a += CHUNK) {
        const vi legal = load(probability + a) >= 0.0f;
        const vf z = load(q + a), e = where(legal, vexp(where(legal, z - best)));
        const vf slope = where(legal, clamp(z - mean - load(advantage + a), 1.0f));
        store(exponential + a, e);
        store(q + a, slope);
        sum += e;
        slopes += slope;
    }
    const vf normal = share / sum, slope_mean = slopes / count, huber = (float)run->advantage_weight * share / count;
    for (size_t a = 0; a < actions; a += CHUNK) {
        const vf p = load(probability + a);
        const vf gradient = load(exponential + a) * normal - p * share + (load(q + a) - slope_mean) * huber;
        store(q + a, where(p >= 0.0f, gradient));
    }
}

#endif

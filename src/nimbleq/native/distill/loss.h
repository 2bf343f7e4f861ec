/* KL(softmax(Q_T/τ) ‖ softmax(Q_S/τ)) + λ·Huber((A_S − A_T)/τ), with A = Q − mean Q, both over legal actions: its gradient,
 * LANES samples side by side. */
#ifndef NIMBLEQ_DISTILL_LOSS_H
#define NIMBLEQ_DISTILL_LOSS_H

#include "../learner/activation.h"
#include "../learner/exponential.h"
#include "student.h"

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

/* Expected returns in the outputs of a head, LANES samples side by side; outputs lie by feature, `stride` samples apart. */
#ifndef NIMBLEQ_LEARNER_VALUES_H
#define NIMBLEQ_LEARNER_VALUES_H

#include "exponential.h"
#include "learner.h"

/* to[rows] = from[rows], of `count` samples. */
static void copy_rows(float *to, const float *from, size_t rows, size_t count, size_t stride)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t s = 0; s < count; s += LANES)
            store(to + r * stride + s, load(from + r * stride + s));
}

/* The greatest of `count` values. */
INLINE vf greatest(const float *x, size_t count, size_t stride)
{
    vf best = load(x);
    for (size_t i = 1; i < count; i++) {
        const vf candidate = load(x + i * stride);
        best = choose(candidate > best, candidate, best);
    }
    return best;
}

/* Whether the outputs are logits of bins. */
INLINE bool histogram(const Options *options) { return options->head == HEAD_C51 || options->head == HEAD_HL_GAUSS; }

INLINE double bin_width(const Options *options)
{
    return (options->v_max - options->v_min) / (double)(options->atoms - 1);
}

/* The return of bin n. */
INLINE float bin(const Options *options, size_t n) { return (float)(options->v_min + bin_width(options) * (double)n); }

/* Logits of `atoms` bins become probabilities; their expected return. */
INLINE vf expectation(const Options *options, float *logits, size_t stride)
{
    const size_t atoms = options->atoms;
    const vf best = greatest(logits, atoms, stride);
    vf total = splat(0), value = splat(0);
    for (size_t n = 0; n < atoms; n++) {
        const vf e = vexp(load(logits + n * stride) - best);
        store(logits + n * stride, e);
        total += e;
    }
    for (size_t n = 0; n < atoms; n++) {
        const vf p = load(logits + n * stride) / total;
        store(logits + n * stride, p);
        value += p * bin(options, n);
    }
    return value;
}

INLINE vf mean_of(const float *x, size_t count, size_t stride)
{
    vf total = splat(0);
    for (size_t i = 0; i < count; i++)
        total += load(x + i * stride);
    return total * (1.0f / (float)count);
}

/* Action values [A][capacity] of the outputs q[A N][capacity]: self->values, or q itself of HEAD_Q. Logits of bins
 * become probabilities. */
static float *find_values(Learner *self, float *q, size_t count)
{
    const Options *options = &self->options;
    const size_t stride = self->capacity, step = options->atoms * stride;
    if (options->head == HEAD_Q)
        return q;
    for (size_t a = 0; a < options->actions; a++)
        for (size_t s = 0; s < count; s += LANES) {
            float *outputs = q + a * step + s;
            const vf value = histogram(options) ? expectation(options, outputs, stride)
                                                : mean_of(outputs, options->atoms, stride);
            store(self->values + a * stride + s, value);
        }
    return self->values;
}

#endif

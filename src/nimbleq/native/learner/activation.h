/* What stands between two Linear layers: LayerNorm without parameters (optional) and ReLU, forward and backward.
 *
 * Feature-major panels make the statistics of a sample lane-wise sums: no horizontal operation anywhere.
 */
#ifndef NIMBLEQ_LEARNER_ACTIVATION_H
#define NIMBLEQ_LEARNER_ACTIVATION_H

#include "vec.h"

#define LAYER_NORM_EPS 1e-5f

/* a = max(z, 0). z, a: [width][PANEL]. */
static void relu_forward(const float *z, float *a, size_t width)
{
    for (size_t at = 0; at < width * PANEL; at += LANES)
        store(a + at, relu(load(z + at)));
}

/* d (in: pre-activations z, out: gradient of z) = z > 0 ? g : 0. Both [width][PANEL]. */
static void relu_backward(const float *g, float *d, size_t width)
{
    for (size_t at = 0; at < width * PANEL; at += LANES)
        store(d + at, (vf)((vi)load(g + at) & (load(d + at) > 0.0f)));
}

/* sum over features of f(x[n]) for both vectors of a panel, in four independent chains (the adder's latency). */
#define PANEL_SUMS(width, s0, s1, F0, F1)                                                                              \
    do {                                                                                                               \
        vf part_[4][2] = {{{0}}};                                                                                      \
        size_t n = 0;                                                                                                  \
        for (; n + 4 <= (width); n += 4)                                                                               \
            UNROLL for (size_t i_ = 0; i_ < 4; i_++)                                                                   \
            {                                                                                                          \
                const size_t at = (n + i_) * PANEL;                                                                    \
                part_[i_][0] += (F0);                                                                                  \
                part_[i_][1] += (F1);                                                                                  \
            }                                                                                                          \
        for (; n < (width); n++) {                                                                                     \
            const size_t at = n * PANEL;                                                                               \
            part_[0][0] += (F0);                                                                                       \
            part_[0][1] += (F1);                                                                                       \
        }                                                                                                              \
        s0 = (part_[0][0] + part_[1][0]) + (part_[2][0] + part_[3][0]);                                                \
        s1 = (part_[0][1] + part_[1][1]) + (part_[2][1] + part_[3][1]);                                                \
    } while (0)

INLINE vf square(vf x) { return x * x; }

/* z becomes its normalised value, a = max(z, 0); inverse_std: [PANEL]. */
static void norm_relu_forward(float *z, float *a, float *inverse_std, size_t width)
{
    const float share = 1.0f / (float)width;
    vf mean0, mean1, var0, var1;
    PANEL_SUMS(width, mean0, mean1, load(z + at), load(z + at + LANES));
    mean0 *= share, mean1 *= share;
    PANEL_SUMS(width, var0, var1, square(load(z + at) - mean0), square(load(z + at + LANES) - mean1));
    const vf inverse0 = 1.0f / vsqrt(var0 * share + LAYER_NORM_EPS), inverse1 = 1.0f / vsqrt(var1 * share + LAYER_NORM_EPS);
    store(inverse_std, inverse0);
    store(inverse_std + LANES, inverse1);
    for (size_t at = 0; at < width * PANEL; at += PANEL) {
        const vf z0 = (load(z + at) - mean0) * inverse0, z1 = (load(z + at + LANES) - mean1) * inverse1;
        store(z + at, z0);
        store(z + at + LANES, z1);
        store(a + at, relu(z0));
        store(a + at + LANES, relu(z1));
    }
}

INLINE vf passed(const float *g, const float *z) { return (vf)((vi)load(g) & (load(z) > 0.0f)); }

/* d (in: normalised z, out: gradient of the Linear's output) from g, the gradient of the activations:
 * inverse_std * (h - mean(h) - z * mean(h * z)) with h = z > 0 ? g : 0. */
static void norm_relu_backward(const float *g, float *d, const float *inverse_std, size_t width)
{
    const float share = 1.0f / (float)width;
    vf mean0, mean1, slope0, slope1;
    PANEL_SUMS(width, mean0, mean1, passed(g + at, d + at), passed(g + at + LANES, d + at + LANES));
    PANEL_SUMS(width, slope0, slope1, passed(g + at, d + at) * load(d + at),
               passed(g + at + LANES, d + at + LANES) * load(d + at + LANES));
    mean0 *= share, mean1 *= share, slope0 *= share, slope1 *= share;
    const vf inverse0 = load(inverse_std), inverse1 = load(inverse_std + LANES);
    for (size_t at = 0; at < width * PANEL; at += PANEL) {
        const vf d0 = passed(g + at, d + at) - mean0 - load(d + at) * slope0;
        const vf d1 = passed(g + at + LANES, d + at + LANES) - mean1 - load(d + at + LANES) * slope1;
        store(d + at, inverse0 * d0);
        store(d + at + LANES, inverse1 * d1);
    }
}

#endif

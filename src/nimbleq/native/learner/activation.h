/* What stands between two Linear layers: LayerNorm without parameters (optional) and ReLU, forward and backward, on
 * matrices [rows, width] with one sample per row. */
#ifndef NIMBLEQ_LEARNER_ACTIVATION_H
#define NIMBLEQ_LEARNER_ACTIVATION_H

#include "transpose.h"

#define LAYER_NORM_EPS 1e-5f

/* a = max(z, 0); they may be the same. */
static void relu_forward(const float *z, float *a, size_t rows, size_t width, size_t stride)
{
    for (size_t block = 0; block < blocks_of(width); block++, z += stride * BLOCK, a += stride * BLOCK)
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < width_in(width, block); i += LANES)
                store(a + r * BLOCK + i, relu(load(z + r * BLOCK + i)));
}

/* d = a > 0 ? d : 0. */
static void relu_backward(const float *a, float *d, size_t rows, size_t width, size_t stride)
{
    for (size_t block = 0; block < blocks_of(width); block++, a += stride * BLOCK, d += stride * BLOCK)
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < width_in(width, block); i += LANES)
                store(d + r * BLOCK + i, (vf)((vi)load(d + r * BLOCK + i) & (load(a + r * BLOCK + i) > 0.0f)));
}

/* Lane i is the sum of F over row r + i; `at` is where F finds its vector, `used` the lanes of it that are no padding.
 * LANES rows at a time need no horizontal operation per row. */
#define SUM_OF_ROWS(r, F)                                                                                              \
    ({                                                                                                                 \
        vf part_[LANES] = {{0}};                                                                                       \
        for (size_t column_ = 0; column_ < width; column_ += LANES) {                                                  \
            const vi used __attribute__((unused)) = lanes_below(width - column_);                                      \
            const size_t first_ = offset_of(stride, (r), column_);                                                     \
            UNROLL for (size_t i = 0; i < LANES; i++)                                                                  \
            {                                                                                                          \
                const size_t at = first_ + i * BLOCK;                                                                  \
                part_[i] += (F);                                                                                       \
            }                                                                                                          \
        }                                                                                                              \
        sum_each(part_);                                                                                               \
    })

INLINE vf where(vi mask, vf x) { return (vf)((vi)x & mask); }
INLINE vf square(vf x) { return x * x; }

/* z becomes its normalised value; inverse_std: [rows]. `stride` is a multiple of LANES: so many rows exist. */
static void norm_forward(float *z, float *inverse_std, size_t rows, size_t width, size_t stride)
{
    const float share = 1.0f / (float)width;
    for (size_t r = 0; r < rows; r += LANES) {
        const vf mean = SUM_OF_ROWS(r, load(z + at)) * share;
        const vf variance = SUM_OF_ROWS(r, where(used, square(load(z + at) - mean[i]))) * share;
        const vf inverse = 1.0f / vsqrt(variance + LAYER_NORM_EPS);
        store(inverse_std + r, inverse);
        for (size_t column = 0; column < width; column += LANES) {
            const size_t at = offset_of(stride, r, column);
            const vi used = lanes_below(width - column);
            UNROLL for (size_t i = 0; i < LANES; i++)
                store(z + at + i * BLOCK, where(used, (load(z + at + i * BLOCK) - mean[i]) * inverse[i]));
        }
    }
}

/* d (in: gradient h of the normalised z, out: of the Linear's output): inverse_std * (h - mean(h) - z * mean(h * z)). */
static void norm_backward(const float *z, const float *inverse_std, float *d, size_t rows, size_t width, size_t stride)
{
    const float share = 1.0f / (float)width;
    for (size_t r = 0; r < rows; r += LANES) {
        const vf mean = SUM_OF_ROWS(r, load(d + at)) * share;
        const vf slope = SUM_OF_ROWS(r, load(d + at) * load(z + at)) * share;
        const vf inverse = load(inverse_std + r);
        for (size_t column = 0; column < width; column += LANES) {
            const size_t first = offset_of(stride, r, column);
            const vi used = lanes_below(width - column);
            UNROLL for (size_t i = 0; i < LANES; i++)
            {
                const size_t at = first + i * BLOCK;
                const vf centred = load(d + at) - mean[i] - load(z + at) * slope[i];
                store(d + at, where(used, centred * inverse[i]));
            }
        }
    }
}

#endif

/* Spectral normalisation [1802.05957]: a hidden layer computes with W / sigma, sigma = left^T W right, where left [out] and
 * right [in] come close to the singular vectors of the largest singular value by power iteration (algorithm 1).
 *
 * Weights lie as w[in, out], see matrix.h.
 */
#ifndef NIMBLEQ_LEARNER_SPECTRAL_H
#define NIMBLEQ_LEARNER_SPECTRAL_H

#include <string.h>

#include "learner.h"
#include "matrix.h"

/* left[out] = W right: not of length 1. */
static void times_right(const Layer *layer, const float *weight, const float *right, float *left)
{
    for (size_t block = 0; block < blocks_of(layer->out); block++)
        for (size_t i = 0; i < width_in(layer->out, block); i += LANES) {
            vf total = splat(0);
            for (size_t r = 0; r < layer->in; r++)
                total += right[r] * load(weight + (block * layer->in + r) * BLOCK + i);
            store(left + block * BLOCK + i, total);
        }
}

/* right[in] = W^T left. */
static void times_left(const Layer *layer, const float *weight, const float *left, float *right)
{
    for (size_t r = 0; r < layer->in; r++) {
        vf total = splat(0);
        for (size_t block = 0; block < blocks_of(layer->out); block++)
            for (size_t i = 0; i < width_in(layer->out, block); i += LANES)
                total += load(left + block * BLOCK + i) * load(weight + (block * layer->in + r) * BLOCK + i);
        right[r] = sum(total);
    }
}

/* x[count . y], whose padding is 0. */
static float inner(const float *x, const float *y, size_t count)
{
    vf total = splat(0);
    for (size_t i = 0; i < count; i += LANES)
        total += load(x + i) * load(y + i);
    return sum(total);
}

/* As torch.nn.functional.normalize. */
static void normalize(float *x, size_t count)
{
    const float length = sqrtf(inner(x, x, count)), divisor = length > 1e-12f ? length : 1e-12f;
    for (size_t i = 0; i < count; i++)
        x[i] /= divisor;
}

/* One step of power iteration in every hidden layer. */
static void iterate(Learner *self)
{
    for (size_t l = 0; l + 1 < self->layers; l++) {
        const Layer *layer = &self->layer[l];
        float *left = self->vectors + layer->left, *right = self->vectors + layer->right;
        times_left(layer, self->param + layer->weight, left, right);
        normalize(right, layer->in);
        times_right(layer, self->param + layer->weight, right, left);
        normalize(left, layer->out);
    }
}

/* `scratch` holds [out]. */
static float sigma_of(const Layer *layer, const float *param, const float *vectors, float *scratch)
{
    times_right(layer, param + layer->weight, vectors + layer->right, scratch);
    return inner(vectors + layer->left, scratch, layer->out);
}

/* The parameters `param` with W / sigma in place of W, into `to`. */
static void divide(const Learner *self, const float *param, const float *vectors, float *to)
{
    memcpy(to, param, self->param_count * sizeof *to);
    for (size_t l = 0; l + 1 < self->layers; l++) {
        const Layer *layer = &self->layer[l];
        const float sigma = sigma_of(layer, param, vectors, self->own.weights);
        float *weight = to + layer->weight;
        for (size_t i = 0; i < blocks_of(layer->out) * layer->in * BLOCK; i += LANES)
            store(weight + i, load(weight + i) / sigma);
    }
}

/* self->grad of W / sigma becomes that of W: (grad - (grad . W / sigma) left right^T) / sigma, the vectors held fixed. */
static void divided_gradient(Learner *self)
{
    for (size_t l = self->frozen; l + 1 < self->layers; l++) {
        const Layer *layer = &self->layer[l];
        const size_t size = blocks_of(layer->out) * layer->in * BLOCK;
        const float *left = self->vectors + layer->left, *right = self->vectors + layer->right;
        const float sigma = sigma_of(layer, self->param, self->vectors, self->own.weights);
        float *grad = self->grad + layer->weight;
        const float along = inner(grad, self->divided + layer->weight, size);
        for (size_t block = 0; block < blocks_of(layer->out); block++)
            for (size_t r = 0; r < layer->in; r++, grad += BLOCK)
                for (size_t i = 0; i < BLOCK; i += LANES)
                    store(grad + i, (load(grad + i) - along * right[r] * load(left + block * BLOCK + i)) / sigma);
    }
}

#endif

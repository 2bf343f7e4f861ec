/* Noisy layers [1706.10295 section 3 b]: weights w + s (e_out e_in^T), biases b + s e_out, with one pair of factors per layer.
 *
 * The head is two layers in one when dueling: its values have factors of their inputs of their own.
 */
#ifndef NIMBLEQ_LEARNER_NOISY_H
#define NIMBLEQ_LEARNER_NOISY_H

#include <string.h>

#include "learner.h"
#include "matrix.h"

/* Rows of the head that belong to the advantages. */
INLINE size_t advantages(const Options *options) { return options->actions * options->atoms; }

/* Factors of all layers: per layer [in] (twice of a dueling head: advantages', values') and [out]. */
static size_t noise_count(const Learner *self)
{
    size_t count = 0;
    for (size_t l = 0; l < self->layers; l++) {
        const Layer *layer = &self->layer[l];
        count += layer->in * (1 + (layer->head && self->options.dueling)) + layer->out;
    }
    return count;
}

/* One layer's factors, each from a vector's boundary on, zeros behind. */
typedef struct {
    const float *in, *in_of_values, *out;
} Factors;

/* Copies the factors `noise` of layer `l` into self->own.factors. */
static Factors factors_of(const Learner *self, const float *noise, size_t l)
{
    for (size_t k = 0; k < l; k++)
        noise += self->layer[k].in + self->layer[k].out;
    const Layer *layer = &self->layer[l];
    const size_t in = blocks_of(layer->in) * BLOCK, out = blocks_of(layer->out) * BLOCK;
    const bool two = layer->head && self->options.dueling;
    float *to = self->own.factors;
    memset(to, 0, (2 * in + out) * sizeof *to);
    memcpy(to, noise, layer->in * sizeof *to);
    memcpy(to + in, two ? noise + layer->in : noise, layer->in * sizeof *to);
    memcpy(to + 2 * in, noise + layer->in * (1 + two), layer->out * sizeof *to);
    return (Factors){to, to + in, to + 2 * in};
}

/* The factor of the stored weights of a row: a hidden layer's rows are its inputs, the head's its outputs. */
INLINE float row_factor(const Layer *layer, const Factors *factors, size_t row)
{
    return layer->head ? factors->out[row] : factors->in[row];
}

/* And of their columns. */
INLINE const float *column_factors(const Learner *self, const Layer *layer, const Factors *factors, size_t row)
{
    if (!layer->head)
        return factors->out;
    return row < advantages(&self->options) ? factors->in : factors->in_of_values;
}

/* to[rows, width] = from[rows, width] * factors, of a block of columns of a layer's weights. */
static void times_factors(const Learner *self, const Layer *layer, const Factors *factors, size_t block, const float *from,
                          float *to)
{
    for (size_t r = 0; r < layer->rows; r++) {
        const vf row = splat(row_factor(layer, factors, r));
        const float *columns = column_factors(self, layer, factors, r) + block * BLOCK;
        for (size_t i = 0; i < width_in(layer->columns, block); i += LANES)
            store(to + r * BLOCK + i, load(from + r * BLOCK + i) * row * load(columns + i));
    }
}

/* param[means, deviations] with the factors `noise`, into `to[means]`. */
static void with_noise(Learner *self, const float *param, const float *noise, float *to)
{
    const float *deviation = param + self->mean_count;
    for (size_t l = 0; l < self->layers; l++) {
        const Layer *layer = &self->layer[l];
        const Factors factors = factors_of(self, noise, l);
        for (size_t block = 0; block < blocks_of(layer->columns); block++) {
            const size_t at = layer->weight + block * layer->rows * BLOCK;
            times_factors(self, layer, &factors, block, deviation + at, to + at);
            for (size_t r = 0; r < layer->rows; r++)
                for (size_t i = 0; i < width_in(layer->columns, block); i += LANES)
                    store(to + at + r * BLOCK + i, load(to + at + r * BLOCK + i) + load(param + at + r * BLOCK + i));
        }
        for (size_t i = 0; i < blocks_of(layer->out) * BLOCK; i += LANES) {
            const size_t at = layer->bias + i;
            store(to + at, load(param + at) + load(deviation + at) * load(factors.out + i));
        }
    }
}

#endif

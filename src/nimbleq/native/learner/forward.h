/* Observations to the outputs of the head, layer by layer for a whole batch. */
#ifndef NIMBLEQ_LEARNER_FORWARD_H
#define NIMBLEQ_LEARNER_FORWARD_H

#include <string.h>

#include "activation.h"
#include "bits.h"
#include "learner.h"
#include "product.h"
#include "transpose.h"

/* Outputs from which on a head, whose weights and outputs are turned for it, is a product like any other layer. */
#define WIDE_HEAD 32

/* obs[count, O], normalised, to the inputs of the first layer. */
static void pack_obs(Learner *self, const float *obs, size_t count)
{
    const size_t size = self->options.obs, stride = self->capacity;
    const float limit = (float)self->options.obs_clip;
    for (size_t first = 0; first < size; first += BLOCK)
        for (size_t s = 0; s < count; s++) {
            float *row = self->layer[0].input + offset_of(stride, s, first);
            const size_t width = width_in(size, first / BLOCK);
            for (size_t i = 0; i < width; i++)
                row[i] = obs[s * size + first + i];
            if (self->options.normalize)
                for (size_t i = 0; i < width; i += LANES) {
                    const vf centred = load(row + i) - load(self->mean + first + i);
                    store(row + i, clamp(centred * load(self->inverse_std + first + i), limit));
                }
        }
}

/* q[output][sample] of a layer with few outputs: dot products along its inputs. */
static void head_forward(const Layer *layer, const float *param, float *q, size_t count, size_t stride)
{
    const size_t width = layer->in;
    for (size_t s = 0; s < count; s += LANES)
        for (size_t n = 0; n < layer->out; n++) {
            const vf dots = SUM_OF_ROWS(s, load(layer->input + at) *
                                               load(element(param + layer->weight, layer->out, n, column_)));
            store(q + n * stride + s, dots + param[layer->bias + n]);
        }
}

/* The same of a layer with many outputs. */
static void wide_head_forward(Learner *self, const float *param, size_t count)
{
    const Layer *layer = &self->layer[self->layers - 1];
    const size_t stride = self->capacity;
    transpose(param + layer->weight, self->own.transposed, layer->out, layer->in, layer->out);
    row_bits(layer->input, count, layer->in, stride, self->own.bits);
    product(&(Product){
        .rows = count, .inner = layer->in, .columns = layer->out,
        .a = layer->input, .a_stride = stride * BLOCK,
        .b = self->own.transposed, .b_stride = layer->in * BLOCK,
        .c = layer->delta, .c_stride = stride * BLOCK,
        .bias = param + layer->bias, .bits = self->own.bits, .bits_stride = stride,
    });
    transpose(layer->delta, self->own.transposed, count, layer->out, stride);
    for (size_t n = 0; n < layer->out; n++)
        for (size_t s = 0; s < count; s += LANES)
            store(self->q + n * stride + s, load(element(self->own.transposed, layer->out, n, s)));
}

/* q = a + v - mean(a) when dueling [1511.06581 eq. 9], for each of N outputs per action, in the first A N of q[A N + N]. */
static void combine_dueling(const Options *options, float *q, size_t count, size_t stride)
{
    if (!options->dueling)
        return;
    const size_t actions = options->actions, step = options->atoms * stride;
    for (size_t n = 0; n < options->atoms; n++)
        for (size_t s = 0; s < count; s += LANES) {
            float *at = q + n * stride + s;
            vf total = splat(0);
            for (size_t a = 0; a < actions; a++)
                total += load(at + a * step);
            const vf shift = load(at + actions * step) - total * (1.0f / (float)actions);
            for (size_t a = 0; a < actions; a++)
                store(at + a * step, load(at + a * step) + shift);
        }
}

/* self->q of obs[count <= capacity, O]; what the backward pass needs stays in the layers. See values.h for what it means. */
static void forward(Learner *self, const float *param, const float *obs, size_t count)
{
    const size_t stride = self->capacity;
    pack_obs(self, obs, count);
    for (size_t l = 0; l + 1 < self->layers; l++) {
        Layer *layer = &self->layer[l], *next = layer + 1;
        row_bits(layer->input, count, layer->in, stride, self->own.bits);
        float *z = self->options.layer_norm ? layer->normal : next->input;
        product(&(Product){
            .rows = count, .inner = layer->in, .columns = layer->out,
            .a = layer->input, .a_stride = stride * BLOCK,
            .b = param + layer->weight, .b_stride = layer->in * BLOCK,
            .c = z, .c_stride = stride * BLOCK,
            .bias = param + layer->bias, .bits = self->own.bits, .bits_stride = stride,
        });
        if (self->options.layer_norm)
            norm_forward(z, layer->inverse_std, count, layer->out, stride);
        relu_forward(z, next->input, count, layer->out, stride);
    }
    if (self->layer[self->layers - 1].out < WIDE_HEAD)
        head_forward(&self->layer[self->layers - 1], param, self->q, count, stride);
    else
        wide_head_forward(self, param, count);
    combine_dueling(&self->options, self->q, count, stride);
}

#endif

/* Gradients: of every layer's outputs from the head's down, then of its weights and biases. */
#ifndef NIMBLEQ_LEARNER_BACKWARD_H
#define NIMBLEQ_LEARNER_BACKWARD_H

#include "activation.h"
#include "bits.h"
#include "learner.h"
#include "product.h"

/* The head's delta[sample][output] from q[output][sample], which holds the gradient. */
static void head_delta(Learner *self, size_t count)
{
    const Layer *head = &self->layer[self->layers - 1];
    for (size_t n = 0; n < head->out; n++)
        for (size_t s = 0; s < count; s++)
            head->delta[offset_of(self->capacity, s, n)] = self->q[n * self->capacity + s];
}

/* Every layer's delta from the one above it. */
static void backward(Learner *self, size_t count)
{
    const size_t stride = self->capacity;
    head_delta(self, count);
    for (size_t l = self->layers - 1; l > 0; l--) {
        const Layer *layer = &self->layer[l], *below = layer - 1;
        const float *weight = self->acts + layer->weight;
        if (!layer->head) { /* the head's weights lie this way already */
            transpose(weight, self->own.transposed, layer->in, layer->out, layer->in);
            weight = self->own.transposed;
        }
        row_bits(layer->delta, count, layer->out, stride, self->own.bits);
        product(&(Product){
            .rows = count, .inner = layer->out, .columns = layer->in,
            .a = layer->delta, .a_stride = stride * BLOCK,
            .b = weight, .b_stride = layer->out * BLOCK,
            .c = below->delta, .c_stride = stride * BLOCK,
            .bits = self->own.bits, .bits_stride = stride,
        });
        relu_backward(layer->input, below->delta, count, layer->in, stride);
        if (self->options.layer_norm)
            norm_backward(below->normal, below->inverse_std, below->delta, count, layer->in, stride);
    }
}

/* Column sums of delta over the batch: grad[outputs of the block]. */
static void bias_gradient(const float *delta, size_t count, size_t width, float *grad)
{
    for (size_t i = 0; i < width; i += LANES) {
        vf total[4] = {{0}};
        size_t s = 0;
        for (; s + 4 <= count; s += 4)
            UNROLL for (size_t j = 0; j < 4; j++) total[j] += load(delta + (s + j) * BLOCK + i);
        for (; s < count; s++)
            total[0] += load(delta + s * BLOCK + i);
        store(grad + i, (total[0] + total[1]) + (total[2] + total[3]));
    }
}

#endif

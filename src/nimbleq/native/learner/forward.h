/* Observations to Q-values, one panel of P samples at a time through all layers, so that it stays in the L1 cache. */
#ifndef NIMBLEQ_LEARNER_FORWARD_H
#define NIMBLEQ_LEARNER_FORWARD_H

#include <string.h>

#include "activation.h"
#include "gemm.h"
#include "learner.h"
#include "transpose.h"

/* memcpy of a few floats, without a call. */
INLINE void copy_short(float *to, const float *from, size_t count)
{
    size_t i = 0;
    for (; i + 4 <= count; i += 4)
        __builtin_memcpy(to + i, from + i, 4 * sizeof *to);
    for (; i < count; i++)
        to[i] = from[i];
}

/* Reads obs[count <= P, O] into self->x, feature-major and normalised; missing samples are zeros. `kept`, unless NULL,
 * receives the batch-major panels as Layer.input wants them, `stride` floats apart. */
static void pack_obs(Learner *self, const float *obs, size_t count, float *kept, size_t stride)
{
    const size_t size = self->options.obs;
    const float limit = (float)self->options.obs_clip;
    _Alignas(ALIGNMENT) float block[PANEL * PANEL];
    for (size_t first = 0; first < size; first += PANEL) {
        const size_t width = size - first < PANEL ? size - first : PANEL;
        memset(block, 0, sizeof block);
        for (size_t s = 0; s < count; s++)
            copy_short(block + s * PANEL, obs + s * size + first, width);
        if (self->options.normalize)
            for (size_t at = 0; at < count * PANEL; at += LANES) {
                const size_t feature = first + at % PANEL;
                const vf centred = load(block + at) - load(self->mean + feature);
                store(block + at, clamp(centred * load(self->inverse_std + feature), limit));
            }
        transpose_block(block, self->x + first * PANEL);
        if (kept != NULL)
            memcpy(kept + first / PANEL * stride, block, sizeof block);
    }
}

/* Copies a layer's activations (feature-major, self->x) to its successor's batch-major inputs. */
static void keep_input(Learner *self, Layer *next, size_t panel, size_t padded_batch)
{
    memset(self->x + next->in * PANEL, 0, (next->panels * PANEL - next->in) * PANEL * sizeof *self->x);
    for (size_t p = 0; p < next->panels; p++)
        transpose_block(self->x + p * PANEL * PANEL, next->input + (p * padded_batch + panel * PANEL) * PANEL);
}

/* Head outputs [A (+ 1)][P] for the panel in self->x. keep: leave in the layers what backward needs of it. */
static float *forward_panel(Learner *self, const float *param, bool keep, size_t panel, size_t padded_batch)
{
    for (size_t l = 0;; l++) {
        Layer *layer = &self->layer[l];
        float *z = keep ? layer->delta + panel * layer->out * PANEL : self->z;
        gemm_forward(param + layer->weight, param + layer->bias, self->x, z, layer->in, layer->out);
        if (l + 1 == self->layers)
            return z;
        if (self->options.layer_norm)
            norm_relu_forward(z, self->x, layer->inverse_std + panel * PANEL, layer->out);
        else
            relu_forward(z, self->x, layer->out);
        if (keep)
            keep_input(self, layer + 1, panel, padded_batch);
    }
}

/* Head outputs become Q-values in their first A rows: q = a + v - mean(a) when dueling [1511.06581 eq. 9]. */
static void combine_dueling(const Options *options, float *head)
{
    if (!options->dueling)
        return;
    const size_t actions = options->actions;
    for (size_t half = 0; half < PANEL; half += LANES) {
        vf total = splat(0);
        for (size_t a = 0; a < actions; a++)
            total += load(head + a * PANEL + half);
        const vf shift = load(head + actions * PANEL + half) - total * (1.0f / (float)actions);
        for (size_t a = 0; a < actions; a++)
            store(head + a * PANEL + half, load(head + a * PANEL + half) + shift);
    }
}

/* Q-values [A][P] of obs[count <= P, O] in self->z. */
static float *q_panel(Learner *self, const float *param, const float *obs, size_t count)
{
    pack_obs(self, obs, count, NULL, 0);
    float *q = forward_panel(self, param, false, 0, 0);
    combine_dueling(&self->options, q);
    return q;
}

#endif

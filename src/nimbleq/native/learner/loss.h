/* The TD error of one panel and its gradient with respect to the head's outputs. */
#ifndef NIMBLEQ_LEARNER_LOSS_H
#define NIMBLEQ_LEARNER_LOSS_H

#include <math.h>

#include "learner.h"
#include "vec.h"

/* V(s') of one vector of samples: the value by `valued` of the action that `chosen` likes best (lowest index at ties).
 * The same array twice gives max_a Q. */
INLINE vf next_value(const float *chosen, const float *valued, size_t actions)
{
    vf best = load(chosen), value = load(valued);
    for (size_t a = 1; a < actions; a++) {
        const vf candidate = load(chosen + a * PANEL);
        const vi better = candidate > best;
        best = choose(better, candidate, best);
        value = choose(better, load(valued + a * PANEL), value);
    }
    return value;
}

/* Makes the illegal actions of `count` samples from `first` on the worst: q[A][P] in place. */
static void forbid(float *q, const unsigned char *mask, size_t actions, size_t first, size_t count)
{
    for (size_t s = 0; s < count; s++)
        for (size_t a = 0; a < actions; a++)
            if (!mask[(first + s) * actions + a])
                q[a * PANEL + s] = -INFINITY;
}

/* One vector's worth of transitions. */
typedef struct {
    vi action;
    vf reward, discount, weight; /* weight 0 where there is no sample */
} Lanes;

INLINE Lanes read_lanes(const Batch *batch, size_t first, size_t size)
{
    int32_t action[LANES] = {0};
    float reward[LANES] = {0}, discount[LANES] = {0}, weight[LANES] = {0};
    const size_t left = first < size ? size - first : 0;
    for (size_t i = 0; i < LANES && i < left; i++) {
        action[i] = (int32_t)batch->action[first + i];
        reward[i] = batch->reward[first + i];
        discount[i] = batch->discount[first + i];
        weight[i] = batch->weight[first + i];
    }
    Lanes lanes;
    __builtin_memcpy(&lanes.action, action, sizeof action);
    __builtin_memcpy(&lanes.reward, reward, sizeof reward);
    __builtin_memcpy(&lanes.discount, discount, sizeof discount);
    __builtin_memcpy(&lanes.weight, weight, sizeof weight);
    return lanes;
}

/* head: Q-values [A][P] (+ a row for the value when dueling), becomes the gradient of the mean weighted loss with
 * respect to the head's outputs. value: V(s') [P]. abs_td[size - first, at most P] receives |TD error|. */
static void td_gradient(const Options *options, const Batch *batch, size_t first, size_t size, const float *value,
                        float *head, float *abs_td)
{
    const size_t actions = options->actions;
    for (size_t half = 0; half < PANEL; half += LANES) {
        const Lanes lanes = read_lanes(batch, first + half, size);
        vf q = splat(0);
        for (size_t a = 0; a < actions; a++)
            q = choose(lanes.action == (int32_t)a, load(head + a * PANEL + half), q);
        const vf td = q - (lanes.reward * (float)options->reward_scale + lanes.discount * load(value + half));
        const vf size_of = vabs(td);
        const vf slope = options->huber ? clamp(td, 1.0f) : 2.0f * td;
        /* Lanes without a sample must not reach the gradient even if their forward pass overflowed. */
        const vf gain = choose(lanes.weight == 0.0f, splat(0), slope * lanes.weight * (1.0f / (float)size));
        const vf shared = options->dueling ? gain * (1.0f / (float)actions) : splat(0);
        for (size_t a = 0; a < actions; a++)
            store(head + a * PANEL + half, choose(lanes.action == (int32_t)a, gain, splat(0)) - shared);
        if (options->dueling)
            store(head + actions * PANEL + half, gain);
        for (size_t i = 0; i < LANES && first + half + i < size; i++)
            abs_td[half + i] = size_of[i];
    }
}

#endif

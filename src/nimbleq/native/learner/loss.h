/* The TD error and its gradient with respect to the head's outputs, LANES samples side by side.
 *
 * Outputs of the head lie by feature here: q[output][sample], `stride` samples apart.
 */
#ifndef NIMBLEQ_LEARNER_LOSS_H
#define NIMBLEQ_LEARNER_LOSS_H

#include <math.h>

#include "exponential.h"
#include "learner.h"
#include "vec.h"

/* V(s'): the value by `valued` of the action that `chosen` likes best (lowest index at ties). The same array twice
 * gives max_a Q. */
INLINE vf next_value(const float *chosen, const float *valued, size_t actions, size_t stride)
{
    vf best = load(chosen), value = load(valued);
    for (size_t a = 1; a < actions; a++) {
        const vf candidate = load(chosen + a * stride);
        const vi better = candidate > best;
        best = choose(better, candidate, best);
        value = choose(better, load(valued + a * stride), value);
    }
    return value;
}

/* Makes the illegal actions of `count` samples the worst. */
static void forbid(float *q, const unsigned char *mask, size_t actions, size_t count, size_t stride)
{
    for (size_t s = 0; s < count; s++)
        for (size_t a = 0; a < actions; a++)
            if (!mask[s * actions + a])
                q[a * stride + s] = -INFINITY;
}

/* One vector's worth of transitions. */
typedef struct {
    vi action;
    vf reward, discount, weight; /* zeros where there is no sample */
} Lanes;

INLINE Lanes read_lanes(const Batch *batch, size_t first, size_t size)
{
    int32_t action[LANES] = {0};
    float reward[LANES] = {0}, discount[LANES] = {0}, weight[LANES] = {0};
    for (size_t i = 0; i < LANES && first + i < size; i++) {
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

/* Probabilities of action `a` for LANES samples; 0 where there is no sample. */
INLINE vf given_lanes(const Imitation *towards, size_t actions, size_t first, size_t size, size_t a)
{
    float p[LANES] = {0};
    for (size_t i = 0; i < LANES && first + i < size; i++)
        p[i] = towards->probability[(first + i) * actions + a];
    vf lanes;
    __builtin_memcpy(&lanes, p, sizeof lanes);
    return lanes;
}

/* q: Q-values of s from sample `first` on (+ a row for the value when dueling), becomes the gradient of the mean
 * weighted loss with respect to the head's outputs. value: V(s'). abs_td[size - first, at most LANES] receives |TD error|. */
static void td_gradient(const Options *options, const Batch *batch, size_t first, size_t size, vf value, float *q,
                        size_t stride, float *abs_td)
{
    const size_t actions = options->actions;
    const Lanes lanes = read_lanes(batch, first, size);
    vf taken = splat(0);
    for (size_t a = 0; a < actions; a++)
        taken = choose(lanes.action == (int32_t)a, load(q + a * stride), taken);
    const vf td = taken - (lanes.reward * (float)options->reward_scale + lanes.discount * value);
    const vf size_of = vabs(td);
    const vf slope = options->huber ? clamp(td, 1.0f) : 2.0f * td;
    const vf gain = slope * lanes.weight * (1.0f / (float)size);
    const vf shared = options->dueling ? gain * (1.0f / (float)actions) : splat(0);
    for (size_t a = 0; a < actions; a++)
        store(q + a * stride, choose(lanes.action == (int32_t)a, gain, splat(0)) - shared);
    if (options->dueling)
        store(q + actions * stride, gain);
    for (size_t i = 0; i < LANES && first + i < size; i++)
        abs_td[i] = size_of[i];
}

/* Adds the gradient of the mean of weight * KL(p || softmax(q / tau)) over legal actions to `gradient`, both by output as
 * `q`, from sample `first` on. Over the actions it sums to zero, so a dueling head's value gets nothing of it, and its
 * advantages get all. */
static void imitation_gradient(const Options *options, const Imitation *towards, size_t first, size_t size, const float *q,
                               float *gradient, size_t stride)
{
    const size_t actions = options->actions;
    float weight[LANES] = {0};
    vf best = splat(-INFINITY), total = splat(0);
    for (size_t i = 0; i < LANES && first + i < size; i++)
        weight[i] = towards->weight[first + i] * towards->inverse_tau / (float)size;
    for (size_t a = 0; a < actions; a++) {
        const vf z = load(q + a * stride) * towards->inverse_tau;
        const vi legal = given_lanes(towards, actions, first, size, a) >= 0.0f;
        best = choose(legal & ~(z <= best), z, best);
    }
    for (size_t a = 0; a < actions; a++) {
        const vi legal = given_lanes(towards, actions, first, size, a) >= 0.0f;
        total += choose(legal, vexp(choose(legal, load(q + a * stride) * towards->inverse_tau - best, splat(0))), splat(0));
    }
    vf share;
    __builtin_memcpy(&share, weight, sizeof share);
    for (size_t a = 0; a < actions; a++) {
        const vf p = given_lanes(towards, actions, first, size, a);
        const vi legal = p >= 0.0f;
        const vf own = vexp(choose(legal, load(q + a * stride) * towards->inverse_tau - best, splat(0))) / total;
        store(gradient + a * stride, load(gradient + a * stride) + choose(legal, (own - p) * share, splat(0)));
    }
}

#endif

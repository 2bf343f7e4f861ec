/* The losses of the heads and their gradients with respect to the head's outputs, LANES samples side by side.
 *
 * Outputs of the head lie by feature here: q[output][sample], `stride` samples apart.
 */
#ifndef NIMBLEQ_LEARNER_LOSS_H
#define NIMBLEQ_LEARNER_LOSS_H

#include <math.h>

#include "activation.h"
#include "learner.h"
#include "values.h"

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

/* The gradient of the head's outputs q[A N (+ N)] from that of the outputs of the taken actions, chosen[N][LANES], which dueling
 * layers share. */
INLINE void spread_gradient(const Options *options, vi action, const float *chosen, float *q, size_t stride)
{
    const size_t actions = options->actions, atoms = options->atoms;
    for (size_t n = 0; n < atoms; n++) {
        const vf gain = load(chosen + n * LANES);
        const vf shared = options->dueling ? gain * (1.0f / (float)actions) : splat(0);
        for (size_t a = 0; a < actions; a++)
            store(q + (a * atoms + n) * stride, choose(action == (int32_t)a, gain, splat(0)) - shared);
        if (options->dueling)
            store(q + (actions * atoms + n) * stride, gain);
    }
}

/* chosen[1]: Q(s, a), becomes the gradient of Huber's loss or the square; |TD error|. `gain`: weight / B. */
INLINE vf td_gradient(const Options *options, const float *goal, float *chosen, size_t stride, vf gain)
{
    (void)stride;
    const vf td = load(chosen) - load(goal);
    store(chosen, (options->huber ? clamp(td, 1.0f) : 2.0f * td) * gain);
    return vabs(td);
}

/* chosen[N]: logits, become the gradient of the cross-entropy with `goal`; the KL divergence of HEAD_C51 [1707.06887 alg. 1;
 * 1710.02298], the difference of the means of HEAD_HL_GAUSS [2403.03950]. */
INLINE vf histogram_gradient(const Options *options, const float *goal, float *chosen, size_t stride, vf gain)
{
    const size_t atoms = options->atoms;
    const vf best = greatest(chosen, atoms, LANES);
    vf total = splat(0), mass = splat(0), divergence = splat(0), difference = splat(0);
    for (size_t n = 0; n < atoms; n++)
        total += vexp(load(chosen + n * LANES) - best);
    const vf log_total = vlog(total);
    for (size_t n = 0; n < atoms; n++) {
        const vf p = load(goal + n * stride), log_q = load(chosen + n * LANES) - best - log_total;
        mass += p;
        divergence += where(p != 0.0f, p * (vlog(p) - log_q));
    }
    for (size_t n = 0; n < atoms; n++) {
        const vf q = vexp(load(chosen + n * LANES) - best) / total;
        difference += (q - load(goal + n * stride)) * bin(options, n);
        store(chosen + n * LANES, (q * mass - load(goal + n * stride)) * gain);
    }
    if (options->head == HEAD_HL_GAUSS)
        return vabs(difference);
    return choose(divergence < 0.0f, splat(0), divergence);
}

/* chosen[N]: quantiles, become the gradient of the quantile Huber loss; the difference of the means [1710.10044 eq. 10]. */
INLINE vf qr_gradient(const Options *options, const float *goal, float *chosen, size_t stride, vf gain)
{
    const size_t atoms = options->atoms;
    const float share = 1.0f / (float)atoms;
    const vf difference = mean_of(goal, atoms, stride) - mean_of(chosen, atoms, LANES);
    for (size_t i = 0; i < atoms; i++) {
        const float fraction = ((float)i + 0.5f) * share;
        const vf quantile = load(chosen + i * LANES);
        vf slope = splat(0);
        for (size_t j = 0; j < atoms; j++) {
            const vf delta = load(goal + j * stride) - quantile;
            slope += choose(delta < 0.0f, splat(1.0f - fraction), splat(fraction)) * clamp(delta, 1.0f);
        }
        store(chosen + i * LANES, -share * slope * gain);
    }
    return vabs(difference);
}

/* From the outputs q[A N (+ N)][stride] for s, of samples from `first` on, to the gradient of the mean weighted loss with
 * respect to them; abs_td[size - first, at most LANES] receives |TD error|, or what the head has for it. */
static void loss_gradient(const Options *options, const Batch *batch, size_t first, size_t size, const float *goal, float *q,
                          size_t stride, float *chosen, float *abs_td)
{
    const size_t actions = options->actions, atoms = options->atoms;
    const Lanes lanes = read_lanes(batch, first, size);
    for (size_t n = 0; n < atoms; n++) {
        vf taken = splat(0);
        for (size_t a = 0; a < actions; a++)
            taken = choose(lanes.action == (int32_t)a, load(q + (a * atoms + n) * stride), taken);
        store(chosen + n * LANES, taken);
    }
    const vf gain = lanes.weight * (1.0f / (float)size);
    const vf error = histogram(options)          ? histogram_gradient(options, goal, chosen, stride, gain)
                     : options->head == HEAD_QR ? qr_gradient(options, goal, chosen, stride, gain)
                                                : td_gradient(options, goal, chosen, stride, gain);
    spread_gradient(options, lanes.action, chosen, q, stride);
    for (size_t i = 0; i < LANES && first + i < size; i++)
        abs_td[i] = error[i];
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

/* Adds the gradient of the mean of weight * KL(p || softmax(values / tau)) over legal actions to `gradient`, of the outputs
 * [A N (+ N)], from sample `first` on. `outputs` [A N]: those of the head, probabilities of bins; slopes: [A]. */
static void imitation_gradient(const Options *options, const Imitation *towards, size_t first, size_t size,
                               const float *values, const float *outputs, float *slopes, float *gradient, size_t stride)
{
    const size_t actions = options->actions, atoms = options->atoms;
    float weight[LANES] = {0};
    vf best = splat(-INFINITY), total = splat(0);
    for (size_t i = 0; i < LANES && first + i < size; i++)
        weight[i] = towards->weight[first + i] * towards->inverse_tau / (float)size;
    for (size_t a = 0; a < actions; a++) {
        const vf z = load(values + a * stride) * towards->inverse_tau;
        const vi legal = given_lanes(towards, actions, first, size, a) >= 0.0f;
        best = choose(legal & ~(z <= best), z, best);
    }
    for (size_t a = 0; a < actions; a++) {
        const vi legal = given_lanes(towards, actions, first, size, a) >= 0.0f;
        const vf z = load(values + a * stride) * towards->inverse_tau;
        total += where(legal, vexp(where(legal, z - best)));
    }
    vf share;
    __builtin_memcpy(&share, weight, sizeof share);
    for (size_t a = 0; a < actions; a++) {
        const vf p = given_lanes(towards, actions, first, size, a);
        const vi legal = p >= 0.0f;
        const vf own = vexp(where(legal, load(values + a * stride) * towards->inverse_tau - best)) / total;
        store(slopes + a * stride, where(legal, (own - p) * share));
    }
    for (size_t n = 0; n < atoms; n++) {
        vf sum = splat(0);
        for (size_t a = 0; a < actions; a++) {
            const size_t at = (a * atoms + n) * stride;
            vf slope = load(slopes + a * stride) * (histogram(options) ? 1.0f : 1.0f / (float)atoms);
            if (histogram(options))
                slope *= load(outputs + at) * (bin(options, n) - load(values + a * stride));
            store(gradient + at, load(gradient + at) + slope);
            sum += slope;
        }
        if (!options->dueling)
            continue;
        for (size_t a = 0; a < actions; a++) {
            const size_t at = (a * atoms + n) * stride;
            store(gradient + at, load(gradient + at) - sum * (1.0f / (float)actions));
        }
        const size_t at = (actions * atoms + n) * stride;
        store(gradient + at, load(gradient + at) + sum);
    }
}

#endif

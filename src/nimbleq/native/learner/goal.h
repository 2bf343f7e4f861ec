/* What the head learns: who acts in s' [1312.5602; 1509.06461; 2007.14430], and what that is worth. */
#ifndef NIMBLEQ_LEARNER_GOAL_H
#define NIMBLEQ_LEARNER_GOAL_H

#include <string.h>

#include "forward.h"
#include "loss.h"
#include "values.h"

/* log softmax(x / tau) of the row `a` is (x - best) / tau - log_total. */
typedef struct {
    vf best, log_total;
} Softmax;

INLINE Softmax softmax_of(const float *x, size_t count, size_t stride, float inverse_tau)
{
    const vf best = greatest(x, count, stride);
    vf total = splat(0);
    for (size_t i = 0; i < count; i++)
        total += vexp((load(x + i * stride) - best) * inverse_tau);
    return (Softmax){best, vlog(total)};
}

/* policy[A] = softmax(q / tau), and q[A] becomes what an action gains, -tau log policy; both are 0 where it is illegal. */
INLINE void soft_policy(const Options *options, float *q, float *policy, size_t stride)
{
    const float tau = (float)options->munchausen_tau;
    const Softmax softmax = softmax_of(q, options->actions, stride, 1 / tau);
    for (size_t a = 0; a < options->actions; a++) {
        const vf value = load(q + a * stride);
        const vi legal = value != -INFINITY;
        const vf log_pi = (value - softmax.best) * (1 / tau) - softmax.log_total;
        store(policy + a * stride, where(legal, vexp(log_pi)));
        store(q + a * stride, where(legal, -tau * log_pi));
    }
}

/* policy[A] is 1 for the action of the greatest q[A] (lowest index at ties), which becomes 0. */
INLINE void greedy_policy(const Options *options, float *q, float *policy, size_t stride)
{
    vf best = load(q);
    vi index = (vi){0};
    for (size_t a = 1; a < options->actions; a++) {
        const vf candidate = load(q + a * stride);
        const vi better = candidate > best;
        best = choose(better, candidate, best);
        index = (better & (int32_t)a) | (index & ~better);
    }
    for (size_t a = 0; a < options->actions; a++) {
        store(policy + a * stride, where(index == (int32_t)a, splat(1)));
        store(q + a * stride, splat(0));
    }
}

/* self->bonus = alpha max(tau log policy(a | s), clip) by the target network [2007.14430 section 3]. */
static void find_bonus(Learner *self, const float *target, const Batch *batch, size_t size)
{
    const Options *options = &self->options;
    const size_t stride = self->capacity;
    const float tau = (float)options->munchausen_tau, clip = (float)options->munchausen_clip;
    forward(self, target, batch->obs, size);
    float *values = find_values(self, self->q, size);
    if (batch->mask != NULL)
        forbid(values, batch->mask, options->actions, size, stride);
    for (size_t s = 0; s < size; s += LANES) {
        const Softmax softmax = softmax_of(values + s, options->actions, stride, 1 / tau);
        const Lanes lanes = read_lanes(batch, s, size);
        vf taken = splat(0);
        for (size_t a = 0; a < options->actions; a++)
            taken = choose(lanes.action == (int32_t)a, load(values + a * stride + s), taken);
        const vf scaled = (taken - softmax.best) - tau * softmax.log_total;
        store(self->bonus + s, (float)options->munchausen_alpha * choose(scaled < clip, splat(clip), scaled));
    }
}

/* Reward and what follows it: goal[N] = r + discount sum_a policy_a (z[a][N] + gain_a), `count` of them. */
INLINE void mix(const Options *options, const float *z, size_t count, const float *policy, const float *gain, float *goal,
                size_t stride, vf reward, vf discount)
{
    for (size_t n = 0; n < count; n++) {
        vf following = splat(0);
        for (size_t a = 0; a < options->actions; a++)
            following += load(policy + a * stride) * (load(z + (a * count + n) * stride) + load(gain + a * stride));
        store(goal + n * stride, reward + discount * following);
    }
}

/* goal[N] of one sample: the distribution of r + discount (Z + gain), each atom's mass shared between the two nearest bins
 * [1707.06887 alg. 1]. */
INLINE void project(const Options *options, const float *probs, const float *policy, const float *gain, float *goal,
                    size_t stride, float reward, float discount)
{
    const size_t atoms = options->atoms;
    const float first = (float)options->v_min, inverse = (float)(1 / bin_width(options)), last = (float)(atoms - 1);
    for (size_t n = 0; n < atoms; n++)
        goal[n * stride] = 0;
    for (size_t a = 0; a < options->actions; a++) {
        const float share = policy[a * stride];
        if (share == 0)
            continue;
        for (size_t n = 0; n < atoms; n++) {
            const float mass = share * probs[(a * atoms + n) * stride];
            float place = (reward + discount * (bin(options, n) + gain[a * stride]) - first) * inverse;
            place = place < 0 ? 0 : place > last ? last : place;
            if (place != place) { /* NaN must reach the loss */
                goal[0] = place;
                continue;
            }
            const size_t below = place < last ? (size_t)place : atoms - 2;
            const float above = place - (float)below;
            goal[below * stride] += mass * (1 - above);
            goal[(below + 1) * stride] += mass * above;
        }
    }
}

/* goal[N] of one sample: a Gaussian around `value` cut into the bins, whose ends it does not leave [2403.03950 section 3.1]. */
INLINE void smooth(const Options *options, float value, float *goal, size_t stride)
{
    const float low = (float)options->v_min, high = (float)options->v_max, width = (float)bin_width(options);
    const float inverse = 1 / (1.41421356f * (float)options->smoothing * width);
    value = value < low ? low : value > high ? high : value; /* NaN stays, and reaches the loss */
    const float first = erff((bin(options, 0) - width / 2 - value) * inverse);
    float below = first;
    for (size_t n = 0; n < options->atoms; n++) {
        const float above = erff((bin(options, n) + width / 2 - value) * inverse);
        goal[n * stride] = above - below;
        below = above;
    }
    for (size_t n = 0; n < options->atoms; n++)
        goal[n * stride] /= below - first;
}

/* self->goal of a batch, from the target network `target`. */
static void find_goal(Learner *self, const float *target, const Batch *batch, size_t size)
{
    const Options *options = &self->options;
    const size_t actions = options->actions, stride = self->capacity;
    const bool selects = options->double_q && self->target != self->param;
    if (options->munchausen)
        find_bonus(self, target, batch, size);
    if (selects) {
        forward(self, self->acts, batch->next_obs, size);
        copy_rows(self->selector, find_values(self, self->q, size), actions, size, stride);
    }
    forward(self, target, batch->next_obs, size);
    const float *values = find_values(self, self->q, size);
    if (!selects)
        copy_rows(self->selector, values, actions, size, stride);
    if (batch->next_mask != NULL)
        forbid(self->selector, batch->next_mask, actions, size, stride);
    for (size_t s = 0; s < size; s += LANES) {
        const Lanes lanes = read_lanes(batch, s, size);
        const vf reward = lanes.reward * (float)options->reward_scale + load(self->bonus + s);
        float *selector = self->selector + s, *policy = self->policy + s, *goal = self->goal + s;
        const float *q = self->q + s;
        if (options->head == HEAD_Q && !options->munchausen) {
            store(goal, reward + lanes.discount * next_value(selector, q, actions, stride));
            continue;
        }
        (options->munchausen ? soft_policy : greedy_policy)(options, selector, policy, stride);
        if (options->head == HEAD_C51) {
            for (size_t i = 0; i < LANES && s + i < size; i++)
                project(options, q + i, policy + i, selector + i, goal + i, stride, reward[i], lanes.discount[i]);
            continue;
        }
        const bool smooths = options->head == HEAD_HL_GAUSS;
        mix(options, smooths ? values + s : q, smooths ? 1 : options->atoms, policy, selector, goal, stride, reward,
            lanes.discount);
        for (size_t i = 0; smooths && i < LANES && s + i < size; i++)
            smooth(options, goal[i], goal + i, stride);
    }
}

#endif

/* A Q-learner for fully connected networks: everything that one gradient step changes, and the step itself.
 *
 * Sizes: B batch, O observation, A actions.
 */
#ifndef NIMBLEQ_LEARNER_H
#define NIMBLEQ_LEARNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crew.h"

#define MAX_LAYERS 64

typedef enum { TARGET_NONE, TARGET_HARD, TARGET_POLYAK } Target;
typedef enum { HEAD_Q, HEAD_C51, HEAD_QR, HEAD_HL_GAUSS } Head;

/* Architecture and hyperparameters, fixed for the learner's life. Meanings as in nimbleq.config. */
typedef struct {
    size_t obs, actions, hidden_layers, hidden[MAX_LAYERS - 1];
    bool normalize, layer_norm, dueling, double_q, huber, radam, munchausen, noisy, sparse;
    bool dynamic;  /* `sparse`, with masks that somebody moves */
    bool spectral; /* hidden weights are divided by their largest singular value, see spectral.h */
    Target target;
    Head head;
    size_t atoms; /* outputs per action, N: 1 of HEAD_Q */
    int64_t target_every, lr_updates;
    double obs_clip, tau, lr, lr_end, adam_eps, max_grad_norm, reward_scale;
    double v_min, v_max; /* the first and the last bin of HEAD_C51 and HEAD_HL_GAUSS */
    double smoothing;    /* bins of one standard deviation of what HEAD_HL_GAUSS is taught */
    double munchausen_alpha, munchausen_tau, munchausen_clip;
} Options;

/* One Linear. Its weights are a matrix as in matrix.h, w[in, out]; those of the head, which has few outputs, w[out, in].
 * So vectors run along many elements in every product. */
typedef struct {
    size_t in, out;
    bool head;
    size_t rows, columns; /* of the stored weights */
    size_t weight, bias;  /* offsets in floats from the start of the parameters */
    size_t left, right;   /* of `spectral`, from the start of the vectors: [out], [in] */
    /* Workspace, matrices with a row per sample: */
    float *input;       /* [B, in] */
    float *normal;      /* [B, out] what LayerNorm made of the outputs */
    float *delta;       /* [B, out] gradient of the outputs */
    float *inverse_std; /* [B] of LayerNorm */
} Layer;

/* What each thread of an update writes for itself. */
typedef struct {
    float *chosen;     /* outputs of the actions that were taken, [N][LANES] */
    float *transposed; /* weights of a layer, or what its weight gradient has on the left */
    float *weights;    /* gradients of a block of weights, and of their deviations */
    float *factors;    /* of a noisy layer */
    uint64_t *bits;    /* of the left operand of a product */
} Scratch;

/* Whether sharing pays just now: other programs may have taken the processors. Seconds of some updates each way. */
typedef struct {
    size_t turn;
    double alone, shared;
} Pace;

typedef struct {
    Options options;
    size_t layers;
    Layer layer[MAX_LAYERS]; /* the last one is the head: A N advantages, then N values when dueling */
    int64_t updates;         /* gradient steps done */
    size_t frozen;           /* layers, from the first on, that no step changes */
    int64_t pause;           /* of `dynamic`: the step after so many stops where it has the gradients */
    bool halted;             /* it has; learner_move does the rest */

    /* State, one block of `state_count` floats: */
    float *state;
    size_t state_count, param_count;
    size_t mean_count; /* parameters without the deviations of noisy layers, which follow in the same order */
    float *param, *target;     /* target == param without a target network */
    float *moment1, *moment2;  /* Adam's */
    size_t vector_count;
    float *vectors, *target_vectors; /* of `spectral`: singular vectors of the hidden weights */
    float *mean, *inverse_std; /* of the observations, [O] and zeros up to a BLOCK */
    float *mask; /* of `sparse`: 0 where a parameter, which is 0, never moves, else 1; padding is 0; NULL: all move */

    /* Workspace; nothing in it outlives a call. */
    float *work;
    size_t capacity;   /* samples that the workspace holds, a multiple of BLOCK; rows per block of its matrices */
    size_t widest;     /* features of the widest layer, rounded up to BLOCK */
    float *q;          /* outputs of the head by feature, [A N (+ N)][capacity] */
    float *outputs;    /* a copy of them without the values, where q becomes a gradient */
    float *values;     /* the expected returns in them, [A][capacity]; not of HEAD_Q, where q is that */
    float *selector;   /* [A][capacity] what decides who acts in s', then what that action's value gains */
    float *policy;     /* [A][capacity] probability of each next action */
    float *bonus;      /* Munchausen's, [capacity]; zeros without */
    float *goal;       /* what the head learns, [N][capacity] */
    const float *acts; /* the online network as it is now: self->param, or with noise */
    float *noisy_online, *noisy_target; /* [mean_count] of noisy layers */
    float *divided, *divided_before, *divided_target; /* [param_count] of `spectral`; before: this update's iteration */
    float *grad;       /* gradients of all parameters, where their norm is clipped, masks move or weights are divided */
    Scratch own, scratch[CREW_MOST]; /* of this thread; of every one */
    size_t threads;    /* that large updates may be shared by; the result does not depend on it */
    Pace pace;
} Learner;

/* A batch of B transitions, C-contiguous; see nimbleq.types.Batch. */
typedef struct {
    const float *obs;      /* [B, O] */
    const int64_t *action; /* [B], each in 0..A-1 */
    const float *reward, *discount;
    const float *next_obs; /* [B, O] */
    const float *weight;
    const unsigned char *next_mask; /* [B, A] nonzero where an action is legal in s', at least one a row; NULL: all */
    const unsigned char *mask;      /* [B, A] the same of s */
    const float *noise; /* factors of noisy layers: the target network's, then the online network's; NULL: there are none */
} Batch;

/* A policy to act like, beside a batch or without one. */
typedef struct {
    const float *probability; /* [B, A] of each action, negative where it is illegal */
    const float *weight;      /* [B] of the divergence in the loss */
    float inverse_tau;        /* the learner's own policy is softmax(q * inverse_tau) */
} Imitation;

/* Lays the learner out and allocates its state (zeros) and a workspace for `batch` samples. False: out of memory, and
 * nothing is held. */
bool learner_create(Learner *self, const Options *options, size_t batch);
void learner_free(Learner *self);

/* Makes room for batches of `batch` samples; keeps a larger workspace. False: out of memory, nothing changed. */
bool learner_reserve(Learner *self, size_t batch);

/* Lets large updates be shared by up to `threads` <= CREW_MOST threads. False as above. */
bool learner_share(Learner *self, size_t threads);

/* By how many threads an update of `size` samples is shared. */
size_t learner_parts(const Learner *self, size_t size);

/* q[count, A] of the online network for obs[count, O]. */
void learner_q(Learner *self, const float *obs, size_t count, float *q);

/* Greedy actions; ties go to the lowest index. */
void learner_act(Learner *self, const float *obs, size_t count, int64_t *action);

/* With noisy layers: the network that `learner_q` and `learner_act` ask from now on is the mean (noise == NULL), or has these
 * factors (see noisy.h), as many as `learner_noise_count` says. */
void learner_set_noise(Learner *self, const float *noise);
size_t learner_noise_count(const Learner *self);

/* One gradient step; abs_td[size] receives |TD error| before it. size <= capacity. towards: added to the loss (NULL:
 * nothing is). */
void learner_update(Learner *self, const Batch *batch, const Imitation *towards, size_t size, float *abs_td);

/* One gradient step on the divergence alone, at obs[size, O]. */
void learner_imitate(Learner *self, const float *obs, const Imitation *towards, size_t size);

/* The rest of a step that halted: from self->grad, which has those of parameters that the mask holds too. */
void learner_move(Learner *self);

#endif

/* A student that learns its teacher's action values: everything that one gradient step of distillation changes, and the
 * step itself, with the fake quantization of QAT (LSQ [1902.08153]) when it is asked for.
 *
 * Sizes: B batch, O observation, A actions. A matrix has a row per sample (of weights: per output), and its rows are
 * padded with zeros to whole vectors: `padded(width)` floats. Samples pass in chunks that stay in the L1 cache.
 */
#ifndef NIMBLEQ_DISTILL_STUDENT_H
#define NIMBLEQ_DISTILL_STUDENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_LAYERS 64
#define CHUNK 48 /* samples; whole tiles of every shape in product.h */

/* Fixed for the student's life. */
typedef struct {
    size_t layers, width[MAX_LAYERS + 1]; /* of the observation, the hidden layers, the actions */
    bool quantized, powers_of_two;
    bool shared[MAX_LAYERS];   /* one weight step for all outputs of the layer */
    float low[MAX_LAYERS], high[MAX_LAYERS]; /* weight levels */
    float top[MAX_LAYERS];     /* highest level of the layer's input; not of layer 0, whose input comes rounded */
    double adam_eps, max_grad_norm;
} Options;

/* One Linear. Offsets are floats from the start of the parameters. */
typedef struct {
    size_t in, out, in_stride, out_stride;
    size_t weight, bias; /* [out][in_stride], [out_stride] */
    size_t weight_step;  /* [out_stride] log2 of the real size of a weight level; shared: the first is that of all */
    size_t input_step;   /* [1] log2 of the real size of a level of the input; not of layer 0 */
    /* Workspace: */
    float *gain;        /* [in_stride] what weights are multiplied by before they are rounded */
    float *rounded;     /* [out][in_stride] the weights that the layer uses */
    float *transposed;  /* [in][out_stride] the same */
    float *offset;      /* [out_stride] the bias that it uses */
    float *step;        /* [out_stride] real size of a level of the weights */
    float *unit;        /* [out_stride] real size of 1 in the integer sums */
    float *input;       /* [CHUNK][in_stride] */
    float *real;        /* [CHUNK][in_stride] the input before it was rounded; quantized only, not of layer 0 */
    float *delta;       /* [CHUNK][out_stride] gradient of the outputs */
} Layer;

typedef struct {
    Options options;
    Layer layer[MAX_LAYERS];
    int64_t updates; /* gradient steps done */
    bool busy;       /* a call is training it */

    /* State, one block of `state_count` floats. The steps of the quantization come last. */
    float *state;
    size_t state_count, param_count, weight_count; /* weights and biases alone */
    float *param, *moment1, *moment2;
    float *scale, *shift; /* input of the first layer = scale * raw observation + shift, [in_stride] */

    /* Workspace; nothing in it outlives a call. */
    float *work;
    float *grad;           /* [param_count] */
    float *q, *exponential; /* [A][CHUNK], lanes along samples */
    float *rows, *targets; /* [CHUNK][targets_stride], and its transpose */
} Student;

/* What is learned from: parts that lie one after the other; a batch draws equally from each. C-contiguous. */
typedef struct {
    const float *obs;         /* [K][in_stride of the first layer] inputs of the first layer, or NULL: */
    const unsigned char *raw; /* [K, O] observations */
    const float *targets;     /* [K][targets_stride]: A probabilities, the softmax of the teacher's values over the
                                 temperature, -1 where an action is illegal; A advantages, the same values centred */
    size_t parts;
    const uint64_t *size; /* [parts] */
} Data;

/* Settings of a run of `total` steps. */
typedef struct {
    uint64_t seed;
    size_t share; /* states from each part; B = share * parts */
    int64_t total, frozen_from; /* the steps of the quantization stay as they are from this update on */
    double lr, temperature, advantage_weight;
} Run;

/* False: out of memory, and nothing is held. */
bool student_create(Student *self, const Options *options);
void student_free(Student *self);

/* Floats of a row of targets. */
size_t targets_stride(const Student *self);

/* The next gradient step. */
void student_update(Student *self, const Data *data, const Run *run);

/* q[count, A] as it trains: with rounded weights and activations when quantized. obs and raw as in Data. */
void student_q(Student *self, const float *obs, const unsigned char *raw, size_t count, float *q);

#endif

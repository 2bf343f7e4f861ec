/* The fused TD step: forward of s' and s, loss, backward, Adam, target network. */
#include <string.h>

#include "adam.h"
#include "backward.h"
#include "forward.h"
#include "goal.h"
#include "learner.h"
#include "loss.h"
#include "noisy.h"

/* The parameters [rows, width] at offset `at`: moved at once by Adam, or their gradients' squares added up when the
 * global norm has to be known first. */
typedef struct {
    AdamArrays arrays;
    AdamStep step;
    bool clips;
    vf squares;
} Descent;

static void take_gradient(Descent *descent, size_t at, const float *grad, size_t rows, size_t width)
{
    if (!descent->clips) {
        adam_rows(&descent->arrays, at, grad, rows, width, &descent->step);
        return;
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < width; i += LANES)
            descent->squares += load(grad + r * BLOCK + i) * load(grad + r * BLOCK + i);
}

/* Gradients of one layer, a block of columns at a time; of its deviations too where `noise` is the factors of all layers. */
static void layer_gradients(Learner *self, size_t l, size_t count, const float *noise, Descent *descent)
{
    const Layer *layer = &self->layer[l];
    const Factors factors = noise == NULL ? (Factors){0} : factors_of(self, noise, l);
    float *second = self->scratch + self->widest * BLOCK;
    const size_t stride = self->capacity;
    const float *left = layer->head ? layer->delta : layer->input, *right = layer->head ? layer->input : layer->delta;
    transpose(left, self->transposed, count, layer->rows, stride);
    row_bits(self->transposed, layer->rows, count, layer->rows, self->bits);
    for (size_t block = 0; block < blocks_of(layer->columns); block++) {
        const size_t at = layer->weight + block * layer->rows * BLOCK, width = width_in(layer->columns, block);
        float *grad = descent->clips ? self->grad + at : self->scratch;
        product(&(Product){
            .rows = layer->rows, .inner = count, .columns = width,
            .a = self->transposed, .a_stride = layer->rows * BLOCK,
            .b = right + block * stride * BLOCK,
            .c = grad,
            .bits = self->bits, .bits_stride = layer->rows,
        });
        if (noise != NULL) {
            float *deviation = descent->clips ? self->grad + self->mean_count + at : second;
            times_factors(self, layer, &factors, block, grad, deviation);
            take_gradient(descent, self->mean_count + at, deviation, layer->rows, width);
        }
        take_gradient(descent, at, grad, layer->rows, width);
    }
    for (size_t block = 0; block < blocks_of(layer->out); block++) {
        const size_t at = layer->bias + block * BLOCK, width = width_in(layer->out, block);
        float *grad = descent->clips ? self->grad + at : self->scratch;
        bias_gradient(layer->delta + block * stride * BLOCK, count, width, grad);
        if (noise != NULL) {
            float *deviation = descent->clips ? self->grad + self->mean_count + at : second;
            for (size_t i = 0; i < width; i += LANES)
                store(deviation + i, load(grad + i) * load(factors.out + block * BLOCK + i));
            take_gradient(descent, self->mean_count + at, deviation, 1, width);
        }
        take_gradient(descent, at, grad, 1, width);
    }
}

static double learning_rate(const Options *options, int64_t updates)
{
    const double done = (double)updates / (double)options->lr_updates;
    return options->lr + (options->lr_end - options->lr) * (done < 1.0 ? done : 1.0);
}

static void descend(Learner *self, size_t count, const float *noise)
{
    const Options *options = &self->options;
    const double tau = options->target == TARGET_POLYAK ? options->tau : 0.0;
    const double lr = learning_rate(options, self->updates);
    Descent descent = {
        .arrays = {self->param, self->moment1, self->moment2, self->target},
        .step = options->radam ? radam_step(lr, options->adam_eps, tau, self->updates)
                               : adam_step(lr, options->adam_eps, tau, self->updates),
        .clips = options->max_grad_norm > 0,
        .squares = splat(0),
    };
    for (size_t l = self->frozen; l < self->layers; l++)
        layer_gradients(self, l, count, noise, &descent);
    if (descent.clips) {
        /* As torch.nn.utils.clip_grad_norm_; a NaN norm must not look like "no clipping". */
        const float factor = (float)options->max_grad_norm / (sqrtf(sum(descent.squares)) + 1e-6f);
        descent.step.grad_factor = factor > 1.0f ? 1.0f : factor;
        const size_t at = self->layer[self->frozen].weight, rows = (self->mean_count - at) / BLOCK;
        adam_rows(&descent.arrays, at, self->grad + at, rows, BLOCK, &descent.step);
        const size_t next = self->mean_count + at;
        if (noise != NULL)
            adam_rows(&descent.arrays, next, self->grad + next, rows, BLOCK, &descent.step);
    }
}

/* From the gradient of the outputs, in self->q, to the next parameters. */
static void take_step(Learner *self, size_t size, const float *noise)
{
    const Options *options = &self->options;
    backward(self, size);
    descend(self, size, noise);
    self->updates++;
    if (options->target == TARGET_HARD && self->updates % options->target_every == 0)
        memcpy(self->target, self->param, self->param_count * sizeof *self->param);
}

/* Of the outputs for all actions, without the values of a dueling head. */
static size_t output_bytes(const Learner *self)
{
    return self->options.actions * self->options.atoms * self->capacity * sizeof *self->q;
}

/* To the gradient in self->q, that of acting like `towards`, from the outputs in self->outputs. */
static void add_imitation(Learner *self, const Imitation *towards, size_t size)
{
    const size_t stride = self->capacity;
    const float *values = find_values(self, self->outputs, size);
    for (size_t s = 0; s < size; s += LANES)
        imitation_gradient(&self->options, towards, s, size, values + s, self->outputs + s, self->policy + s, self->q + s,
                           stride);
}

size_t learner_noise_count(const Learner *self) { return noise_count(self); }

void learner_set_noise(Learner *self, const float *noise)
{
    self->acts = noise == NULL ? self->param : self->noisy_online;
    if (noise != NULL)
        with_noise(self, self->param, noise, self->noisy_online);
}

void learner_update(Learner *self, const Batch *batch, const Imitation *towards, size_t size, float *abs_td)
{
    const FloatMode mode = flush_denormals();
    const size_t stride = self->capacity;
    const float *target = self->target, *noise = batch->noise;
    if (noise != NULL) {
        learner_set_noise(self, noise + noise_count(self));
        target = self->acts;
        if (self->target != self->param)
            with_noise(self, self->target, noise, self->noisy_target), target = self->noisy_target;
        noise += noise_count(self);
    }
    find_goal(self, target, batch, size);
    forward(self, self->acts, batch->obs, size);
    if (towards != NULL)
        memcpy(self->outputs, self->q, output_bytes(self));
    for (size_t s = 0; s < size; s += LANES)
        loss_gradient(&self->options, batch, s, size, self->goal + s, self->q + s, stride, self->chosen, abs_td + s);
    if (towards != NULL)
        add_imitation(self, towards, size);
    take_step(self, size, noise);
    self->acts = self->param;
    restore_float_mode(mode);
}

void learner_imitate(Learner *self, const float *obs, const Imitation *towards, size_t size)
{
    const FloatMode mode = flush_denormals();
    forward(self, self->param, obs, size);
    memcpy(self->outputs, self->q, output_bytes(self));
    memset(self->q, 0, self->layer[self->layers - 1].out * self->capacity * sizeof *self->q);
    add_imitation(self, towards, size);
    take_step(self, size, NULL);
    restore_float_mode(mode);
}

void learner_q(Learner *self, const float *obs, size_t count, float *q)
{
    const FloatMode mode = flush_denormals();
    const size_t actions = self->options.actions, stride = self->capacity;
    for (size_t first = 0; first < count; first += stride) {
        const size_t rows = count - first < stride ? count - first : stride;
        forward(self, self->acts, obs + first * self->options.obs, rows);
        const float *values = find_values(self, self->q, rows);
        for (size_t s = 0; s < rows; s++)
            for (size_t a = 0; a < actions; a++)
                q[(first + s) * actions + a] = values[a * stride + s];
    }
    restore_float_mode(mode);
}

void learner_act(Learner *self, const float *obs, size_t count, int64_t *action)
{
    const FloatMode mode = flush_denormals();
    const size_t stride = self->capacity;
    for (size_t first = 0; first < count; first += stride) {
        const size_t rows = count - first < stride ? count - first : stride;
        forward(self, self->acts, obs + first * self->options.obs, rows);
        const float *values = find_values(self, self->q, rows);
        for (size_t s = 0; s < rows; s++) {
            size_t best = 0;
            for (size_t a = 1; a < self->options.actions; a++)
                if (values[a * stride + s] > values[best * stride + s])
                    best = a;
            action[first + s] = (int64_t)best;
        }
    }
    restore_float_mode(mode);
}

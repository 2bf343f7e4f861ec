/* The fused TD step: forward of s' and s, loss, backward, Adam, target network. */
#include <string.h>

#include "adam.h"
#include "forward.h"
#include "learner.h"
#include "loss.h"

/* Gradients of all layers' outputs for one panel, from the head's down; what was kept of the forward pass is replaced. */
static void backward_panel(Learner *self, size_t panel)
{
    for (size_t l = self->layers - 1; l > 0; l--) {
        const Layer *layer = &self->layer[l], *below = layer - 1;
        float *below_delta = below->delta + panel * below->out * PANEL;
        gemm_input_gradient(self->param + layer->weight, layer->delta + panel * layer->out * PANEL, self->z, layer->in,
                            layer->out);
        if (self->options.layer_norm)
            norm_relu_backward(self->z, below_delta, below->inverse_std + panel * PANEL, below->out);
        else
            relu_backward(self->z, below_delta, below->out);
    }
}

/* Receives finished gradients: applies Adam at once, or stores them and adds up their squares when the global norm has
 * to be known first. */
typedef struct {
    AdamArrays arrays;
    AdamStep step;
    float *grad;
    vf squares;
} Sink;

INLINE void sink_vector(Sink *sink, const bool store_only, size_t at, vf grad)
{
    if (store_only) {
        store(sink->grad + at, grad);
        sink->squares += grad * grad;
    } else {
        adam_vector(&sink->arrays, at, grad, &sink->step);
    }
}

INLINE void weight_gradient(const Layer *layer, size_t padded_batch, Sink *sink, const bool store_only)
{
    for (size_t p = 0; p < layer->panels; p++) {
        const float *input = layer->input + p * padded_batch * PANEL;
        const size_t at = layer->weight + p * layer->out * PANEL, block = layer->out * PANEL;
#define WIDE(rows, n)                                                                                                  \
    {                                                                                                                  \
        vf acc[ROWS][2];                                                                                               \
        UNROLL for (int i = 0; i < rows; i++) acc[i][0] = acc[i][1] = splat(0);                                        \
        dot_tile(rows, PANEL, 1, block, layer->delta + n * PANEL, input, padded_batch, acc);                           \
        UNROLL for (int i = 0; i < rows; i++)                                                                          \
        {                                                                                                              \
            sink_vector(sink, store_only, at + (n + i) * PANEL, acc[i][0]);                                            \
            sink_vector(sink, store_only, at + (n + i) * PANEL + LANES, acc[i][1]);                                    \
        }                                                                                                              \
    }
#define NARROW(rows, n)                                                                                                \
    {                                                                                                                  \
        vf acc[ROWS][2];                                                                                               \
        dot_tile_narrow(rows, block, layer->delta + n * PANEL, input, padded_batch, acc);                              \
        UNROLL for (int i = 0; i < rows; i++) sink_vector(sink, store_only, at + (n + i) * PANEL, acc[i][0]);          \
    }
        if (layer->in - p * PANEL > LANES)
            FOR_TILES(layer->out, WIDE);
        else
            FOR_TILES(layer->out, NARROW);
#undef WIDE
#undef NARROW
    }
}

INLINE void bias_gradient(const Layer *layer, size_t panels, Sink *sink, const bool store_only)
{
    for (size_t first = 0; first < layer->out; first += LANES) {
        vf total[LANES];
        for (size_t i = 0; i < LANES; i++) {
            total[i] = splat(0);
            if (first + i >= layer->out)
                continue;
            const float *delta = layer->delta + (first + i) * PANEL;
            for (size_t p = 0; p < panels; p++, delta += layer->out * PANEL)
                total[i] += load(delta) + load(delta + LANES);
        }
        transpose_vectors(total);
        for (int half = LANES / 2; half > 0; half /= 2)
            for (int i = 0; i < half; i++)
                total[i] += total[i + half];
        sink_vector(sink, store_only, layer->bias + first, total[0]);
    }
}

static void all_gradients(const Learner *self, size_t padded_batch, Sink *sink)
{
    for (size_t l = 0; l < self->layers; l++) {
        const Layer *layer = &self->layer[l];
        if (sink->grad != NULL) {
            weight_gradient(layer, padded_batch, sink, true);
            bias_gradient(layer, padded_batch / PANEL, sink, true);
        } else {
            weight_gradient(layer, padded_batch, sink, false);
            bias_gradient(layer, padded_batch / PANEL, sink, false);
        }
    }
}

static double learning_rate(const Options *options, int64_t updates)
{
    const double done = (double)updates / (double)options->lr_updates;
    return options->lr + (options->lr_end - options->lr) * (done < 1.0 ? done : 1.0);
}

static void descend(Learner *self, size_t padded_batch)
{
    const Options *options = &self->options;
    const double tau = options->target == TARGET_POLYAK ? options->tau : 0.0;
    const double lr = learning_rate(options, self->updates);
    Sink sink = {
        .arrays = {self->param, self->moment1, self->moment2, self->target},
        .step = options->radam ? radam_step(lr, options->adam_eps, tau, self->updates)
                               : adam_step(lr, options->adam_eps, tau, self->updates),
        .grad = options->max_grad_norm > 0 ? self->grad : NULL,
        .squares = splat(0),
    };
    all_gradients(self, padded_batch, &sink);
    if (sink.grad != NULL) {
        /* As torch.nn.utils.clip_grad_norm_; a NaN norm must not look like "no clipping". */
        const float factor = (float)options->max_grad_norm / (sqrtf(sum(sink.squares)) + 1e-6f);
        sink.step.grad_factor = factor > 1.0f ? 1.0f : factor;
        adam_all(&sink.arrays, self->grad, self->param_count, &sink.step);
    }
}

void learner_update(Learner *self, const Batch *batch, size_t size, float *abs_td)
{
    const FloatMode mode = flush_denormals();
    const Options *options = &self->options;
    const size_t panels = (size + PANEL - 1) / PANEL, padded_batch = panels * PANEL;
    Layer *first_layer = &self->layer[0];
    const bool selects = options->double_q && self->target != self->param;
    const bool apart = selects || batch->next_mask != NULL; /* what chooses is not what values */
    _Alignas(ALIGNMENT) float value[PANEL];
    for (size_t p = 0; p < panels; p++) {
        const size_t first = p * PANEL, count = size - first < PANEL ? size - first : PANEL;
        const size_t q_bytes = options->actions * PANEL * sizeof(float);
        if (selects)
            memcpy(self->q_next, q_panel(self, self->param, batch->next_obs + first * options->obs, count), q_bytes);
        const float *valued = q_panel(self, self->target, batch->next_obs + first * options->obs, count);
        if (apart && !selects)
            memcpy(self->q_next, valued, q_bytes);
        if (batch->next_mask != NULL)
            forbid(self->q_next, batch->next_mask, options->actions, first, count);
        const float *chosen = apart ? self->q_next : valued;
        for (size_t half = 0; half < PANEL; half += LANES)
            store(value + half, next_value(chosen + half, valued + half, options->actions));

        pack_obs(self, batch->obs + first * options->obs, count, first_layer->input + first * PANEL,
                 padded_batch * PANEL);
        float *head = forward_panel(self, self->param, true, p, padded_batch);
        combine_dueling(options, head);
        td_gradient(options, batch, first, size, value, head, abs_td + first);
        backward_panel(self, p);
    }
    descend(self, padded_batch);
    self->updates++;
    if (options->target == TARGET_HARD && self->updates % options->target_every == 0)
        memcpy(self->target, self->param, self->param_count * sizeof *self->param);
    restore_float_mode(mode);
}

void learner_q(Learner *self, const float *obs, size_t count, float *q)
{
    const FloatMode mode = flush_denormals();
    const size_t actions = self->options.actions, size = self->options.obs;
    for (size_t first = 0; first < count; first += PANEL) {
        const size_t width = count - first < PANEL ? count - first : PANEL;
        const float *panel = q_panel(self, self->param, obs + first * size, width);
        for (size_t s = 0; s < width; s++)
            for (size_t a = 0; a < actions; a++)
                q[(first + s) * actions + a] = panel[a * PANEL + s];
    }
    restore_float_mode(mode);
}

void learner_act(Learner *self, const float *obs, size_t count, int64_t *action)
{
    const FloatMode mode = flush_denormals();
    const size_t actions = self->options.actions, size = self->options.obs;
    for (size_t first = 0; first < count; first += PANEL) {
        const size_t width = count - first < PANEL ? count - first : PANEL;
        const float *panel = q_panel(self, self->param, obs + first * size, width);
        for (size_t s = 0; s < width; s++) {
            size_t best = 0;
            for (size_t a = 1; a < actions; a++)
                if (panel[a * PANEL + s] > panel[best * PANEL + s])
                    best = a;
            action[first + s] = (int64_t)best;
        }
    }
    restore_float_mode(mode);
}

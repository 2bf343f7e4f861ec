/* The fused TD step: forward of s' and s, loss, backward, Adam, target network. */
#include <string.h>
#include <time.h>

#include "adam.h"
#include "backward.h"
#include "forward.h"
#include "goal.h"
#include "learner.h"
#include "loss.h"
#include "noisy.h"
#include "spectral.h"

/* Updates each way, and after how many updates they are tried again. */
#define TRIALS 8
#define TURNS 256

/* One update, and what its parts share. */
typedef struct {
    Learner *self;
    const Batch *batch;       /* NULL: it only imitates, at `obs` */
    const float *obs;         /* [size, O] */
    const Imitation *towards; /* or NULL */
    const float *online, *target; /* the networks as they are now, with noise if there is any */
    const float *chooser;         /* the online network as it selects in s' */
    const float *noise;           /* its factors in the online network, of all layers, or NULL */
    size_t size, parts;
    float *abs_td; /* [size] */
    AdamArrays arrays;
    AdamStep step;
    bool waits;        /* all gradients have to be known before a parameter moves */
    size_t from, rows; /* of the parameters that move, and that have a deviation each */
} Update;

typedef struct {
    size_t first, count;
} Range;

/* Whole vectors of samples. */
static Range range_of(const Update *update, size_t part)
{
    const size_t each = vectors_of((update->size + update->parts - 1) / update->parts) * LANES, first = part * each;
    const size_t left = first < update->size ? update->size - first : 0;
    return (Range){first, left < each ? left : each};
}

/* The learner as one part sees it: its own scratch, and the workspace from sample `first` on. */
static Learner view_of(const Learner *self, size_t part, size_t first)
{
    Learner view = *self;
    view.own = self->scratch[part];
    view.q += first, view.outputs += first, view.values += first, view.selector += first, view.policy += first;
    view.bonus += first, view.goal += first;
    for (size_t l = 0; l < self->layers; l++) {
        Layer *layer = &view.layer[l];
        layer->input += first * BLOCK, layer->delta += first * BLOCK, layer->inverse_std += first;
        if (layer->normal != NULL)
            layer->normal += first * BLOCK;
    }
    return view;
}

/* The batch from sample `first` on. */
static Batch batch_from(const Batch *batch, const Options *options, size_t first)
{
    Batch rest = *batch;
    rest.obs += first * options->obs, rest.next_obs += first * options->obs;
    rest.action += first, rest.reward += first, rest.discount += first, rest.weight += first;
    if (rest.mask != NULL)
        rest.mask += first * options->actions;
    if (rest.next_mask != NULL)
        rest.next_mask += first * options->actions;
    return rest;
}

/* No gradient where no weight is. */
static void mask_gradient(const float *mask, float *grad, size_t rows, size_t width)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < width; i += LANES)
            store(grad + r * BLOCK + i, load(grad + r * BLOCK + i) * load(mask + r * BLOCK + i));
}

/* The rows [rows, width] of gradients at offset `at` move their parameters, unless all have to be known first. */
static void take_gradient(const Update *update, size_t at, float *grad, size_t rows, size_t width)
{
    const Learner *self = update->self;
    if (self->mask != NULL && !self->halted)
        mask_gradient(self->mask + at, grad, rows, width);
    if (!update->waits)
        adam_rows(&update->arrays, at, grad, rows, width, &update->step);
}

/* Gradients of one layer's blocks of columns `part`, `part` + parts …; of its deviations too where there is noise. */
static void layer_gradients(Learner *self, size_t l, const Update *update, size_t part)
{
    const Layer *layer = &self->layer[l];
    const float *noise = update->noise;
    const Factors factors = noise == NULL ? (Factors){0} : factors_of(self, noise, l);
    float *first = self->own.weights, *second = first + self->widest * BLOCK;
    const size_t stride = self->capacity, count = update->size, deviations = self->mean_count;
    const float *left = layer->head ? layer->delta : layer->input, *right = layer->head ? layer->input : layer->delta;
    if (part < blocks_of(layer->columns)) {
        transpose(left, self->own.transposed, count, layer->rows, stride);
        row_bits(self->own.transposed, layer->rows, count, layer->rows, self->own.bits);
    }
    for (size_t block = part; block < blocks_of(layer->columns); block += update->parts) {
        const size_t at = layer->weight + block * layer->rows * BLOCK, width = width_in(layer->columns, block);
        float *grad = update->waits ? self->grad + at : first;
        product(&(Product){
            .rows = layer->rows, .inner = count, .columns = width,
            .a = self->own.transposed, .a_stride = layer->rows * BLOCK,
            .b = right + block * stride * BLOCK,
            .c = grad,
            .bits = self->own.bits, .bits_stride = layer->rows,
        });
        if (noise != NULL) {
            float *deviation = update->waits ? self->grad + deviations + at : second;
            times_factors(self, layer, &factors, block, grad, deviation);
            take_gradient(update, deviations + at, deviation, layer->rows, width);
        }
        take_gradient(update, at, grad, layer->rows, width);
    }
    for (size_t block = part; block < blocks_of(layer->out); block += update->parts) {
        const size_t at = layer->bias + block * BLOCK, width = width_in(layer->out, block);
        float *grad = update->waits ? self->grad + at : first;
        bias_gradient(layer->delta + block * stride * BLOCK, count, width, grad);
        if (noise != NULL) {
            float *deviation = update->waits ? self->grad + deviations + at : second;
            for (size_t i = 0; i < width; i += LANES)
                store(deviation + i, load(grad + i) * load(factors.out + block * BLOCK + i));
            take_gradient(update, deviations + at, deviation, 1, width);
        }
        take_gradient(update, at, grad, 1, width);
    }
}

static double learning_rate(const Options *options, int64_t updates)
{
    const double done = (double)updates / (double)options->lr_updates;
    return options->lr + (options->lr_end - options->lr) * (done < 1.0 ? done : 1.0);
}

/* Adds up the squares of the gradients [rows, width] at offset `at`. */
static void add_squares(const Learner *self, size_t at, size_t rows, size_t width, vf *squares)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < width; i += LANES) {
            const vf grad = load(self->grad + at + r * BLOCK + i);
            *squares += grad * grad;
        }
}

/* That of all gradients; the order of the sums is always the same. */
static float gradient_norm(const Learner *self, bool noisy)
{
    vf squares = splat(0);
    for (size_t l = self->frozen; l < self->layers; l++) {
        const Layer *layer = &self->layer[l];
        for (size_t block = 0; block < blocks_of(layer->columns); block++) {
            const size_t at = layer->weight + block * layer->rows * BLOCK, width = width_in(layer->columns, block);
            if (noisy)
                add_squares(self, self->mean_count + at, layer->rows, width, &squares);
            add_squares(self, at, layer->rows, width, &squares);
        }
        for (size_t block = 0; block < blocks_of(layer->out); block++) {
            const size_t at = layer->bias + block * BLOCK, width = width_in(layer->out, block);
            if (noisy)
                add_squares(self, self->mean_count + at, 1, width, &squares);
            add_squares(self, at, 1, width, &squares);
        }
    }
    return sqrtf(sum(squares));
}

/* To the gradient in view->q, that of acting like `towards`, from the outputs in view->outputs, of samples from `first` on. */
static void add_imitation(Learner *view, const Update *update, Range range)
{
    const size_t stride = view->capacity;
    const float *values = find_values(view, view->outputs, range.count);
    for (size_t s = 0; s < range.count; s += LANES)
        imitation_gradient(&view->options, update->towards, range.first + s, update->size, values + s, view->outputs + s,
                           view->policy + s, view->q + s, stride);
}

/* From observations to the gradients of every layer's outputs, of one part of the samples. */
static void part_passes(void *context, size_t part)
{
    const Update *update = context;
    const Range range = range_of(update, part);
    if (range.count == 0)
        return;
    const FloatMode mode = flush_denormals();
    Learner view = view_of(update->self, part, range.first);
    const Options *options = &view.options;
    const size_t stride = view.capacity, outputs = options->actions * options->atoms;
    if (update->batch != NULL) {
        const Batch batch = batch_from(update->batch, options, range.first);
        view.acts = update->chooser;
        find_goal(&view, update->target, &batch, range.count);
    }
    view.acts = update->online;
    forward(&view, view.acts, update->obs + range.first * options->obs, range.count);
    if (update->towards != NULL)
        copy_rows(view.outputs, view.q, outputs, range.count, stride);
    for (size_t s = 0; s < range.count; s += LANES) {
        const size_t at = range.first + s;
        if (update->batch != NULL)
            loss_gradient(options, update->batch, at, update->size, view.goal + s, view.q + s, stride, view.own.chosen,
                          update->abs_td + at);
        else
            for (size_t n = 0; n < view.layer[view.layers - 1].out; n++)
                store(view.q + n * stride + s, splat(0));
    }
    if (update->towards != NULL)
        add_imitation(&view, update, range);
    backward(&view, range.count);
    restore_float_mode(mode);
}

/* From those to the gradients of the parameters, of one part of them, and to the next parameters unless these wait. */
static void part_descends(void *context, size_t part)
{
    const Update *update = context;
    const FloatMode mode = flush_denormals();
    Learner view = view_of(update->self, part, 0);
    for (size_t l = view.frozen; l < view.layers; l++)
        layer_gradients(&view, l, update, part);
    restore_float_mode(mode);
}

/* To the next parameters, of one part of them, from all gradients. */
static void part_moves(void *context, size_t part)
{
    const Update *update = context;
    const FloatMode mode = flush_denormals();
    const Learner *self = update->self;
    const size_t each = (update->rows + update->parts - 1) / update->parts, first = part * each;
    const size_t left = first < update->rows ? update->rows - first : 0, rows = left < each ? left : each;
    const size_t at = update->from + first * BLOCK, next = self->mean_count + at;
    adam_rows(&update->arrays, at, self->grad + at, rows, BLOCK, &update->step);
    if (update->noise != NULL)
        adam_rows(&update->arrays, next, self->grad + next, rows, BLOCK, &update->step);
    restore_float_mode(mode);
}

/* By how many threads this update is shared: now and then both ways are tried, then the faster one is taken. */
static size_t parts_now(Learner *self, size_t size)
{
    const size_t most = learner_parts(self, size);
    Pace *pace = &self->pace;
    if (pace->turn == TURNS)
        *pace = (Pace){0};
    return pace->turn < TRIALS || (pace->turn >= 2 * TRIALS && pace->alone <= pace->shared) ? 1 : most;
}

static void note_pace(Pace *pace, double seconds)
{
    if (pace->turn < 2 * TRIALS)
        *(pace->turn < TRIALS ? &pace->alone : &pace->shared) += seconds;
    pace->turn++;
}

static double now(void)
{
    struct timespec time;
    return timespec_get(&time, TIME_UTC) ? (double)time.tv_sec + 1e-9 * (double)time.tv_nsec : 0;
}

/* How the parameters move in the step that follows. */
static void begin_step(Update *update)
{
    Learner *self = update->self;
    const Options *options = &self->options;
    const double tau = options->target == TARGET_POLYAK ? options->tau : 0.0;
    const double lr = learning_rate(options, self->updates);
    update->parts = parts_now(self, update->size);
    update->arrays = (AdamArrays){self->param, self->moment1, self->moment2, self->target};
    update->step = options->radam ? radam_step(lr, options->adam_eps, tau, self->updates)
                                  : adam_step(lr, options->adam_eps, tau, self->updates);
    update->waits = options->max_grad_norm > 0 || self->halted || options->spectral;
}

/* From all gradients, where the parameters waited for them, to the end of a step. */
static void end_step(Update *update)
{
    Learner *self = update->self;
    const Options *options = &self->options;
    if (options->spectral)
        divided_gradient(self);
    if (options->max_grad_norm > 0) {
        /* As torch.nn.utils.clip_grad_norm_; a NaN norm must not look like "no clipping". */
        const float factor = (float)options->max_grad_norm / (gradient_norm(self, update->noise != NULL) + 1e-6f);
        update->step.grad_factor = factor > 1.0f ? 1.0f : factor;
    }
    if (update->waits) {
        update->from = self->layer[self->frozen].weight;
        update->rows = (self->mean_count - update->from) / BLOCK;
        crew_share(update->parts, part_moves, update);
    }
    self->updates++;
    const bool copies = options->target == TARGET_HARD && self->updates % options->target_every == 0;
    if (copies)
        memcpy(self->target, self->param, self->param_count * sizeof *self->param);
    if (copies || options->target == TARGET_POLYAK)
        memcpy(self->target_vectors, self->vectors, self->vector_count * sizeof *self->vectors);
}

static void take_step(Update *update)
{
    Learner *self = update->self;
    const double began = now();
    self->halted = self->options.dynamic && self->updates == self->pause;
    begin_step(update);
    crew_share(update->parts, part_passes, update);
    crew_share(update->parts, part_descends, update);
    if (self->halted)
        return;
    end_step(update);
    note_pace(&self->pace, now() - began);
}

size_t learner_noise_count(const Learner *self) { return noise_count(self); }

void learner_set_noise(Learner *self, const float *noise)
{
    self->acts = noise == NULL ? self->param : self->noisy_online;
    if (noise != NULL)
        with_noise(self, self->param, noise, self->noisy_online);
}

/* The online network of an update with divided weights. */
static void learn_divided(Learner *self)
{
    iterate(self);
    divide(self, self->param, self->vectors, self->divided);
}

/* What is asked for Q-values. */
static const float *playing(Learner *self)
{
    if (!self->options.spectral)
        return self->acts;
    divide(self, self->param, self->vectors, self->divided); /* somebody may have written other weights */
    return self->divided;
}

void learner_update(Learner *self, const Batch *batch, const Imitation *towards, size_t size, float *abs_td)
{
    const FloatMode mode = flush_denormals();
    Update update = {
        .self = self, .batch = batch, .obs = batch->obs, .towards = towards, .online = self->param,
        .target = self->target, .size = size, .abs_td = abs_td,
    };
    if (self->options.spectral) {
        divide(self, self->target, self->target_vectors, self->divided_target);
        divide(self, self->param, self->vectors, self->divided_before);
        learn_divided(self);
        update.online = self->divided, update.target = self->divided_target;
    }
    if (batch->noise != NULL) {
        update.noise = batch->noise + noise_count(self);
        learner_set_noise(self, update.noise);
        update.online = update.target = self->acts;
        if (self->target != self->param)
            with_noise(self, self->target, batch->noise, self->noisy_target), update.target = self->noisy_target;
    }
    update.chooser = self->options.spectral ? self->divided_before : update.online;
    take_step(&update);
    self->acts = self->param;
    restore_float_mode(mode);
}

void learner_imitate(Learner *self, const float *obs, const Imitation *towards, size_t size)
{
    const FloatMode mode = flush_denormals();
    if (self->options.spectral)
        learn_divided(self);
    const float *online = self->options.spectral ? self->divided : self->param;
    take_step(&(Update){.self = self, .obs = obs, .towards = towards, .online = online, .size = size});
    restore_float_mode(mode);
}

void learner_move(Learner *self)
{
    const FloatMode mode = flush_denormals();
    Update update = {.self = self, .size = 1};
    begin_step(&update);
    mask_gradient(self->mask, self->grad, self->param_count / BLOCK, BLOCK);
    end_step(&update);
    self->halted = false;
    restore_float_mode(mode);
}

void learner_q(Learner *self, const float *obs, size_t count, float *q)
{
    const FloatMode mode = flush_denormals();
    self->acts = playing(self);
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
    self->acts = playing(self);
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

/* Where everything lies: one block for the state, one for the workspace, every array on a cache line. */
#include <stdlib.h>
#include <string.h>

#include "learner.h"
#include "matrix.h"

static size_t round_up(size_t count) { return blocks_of(count) * BLOCK; }

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static float *allocate(size_t count)
{
    const size_t bytes = (count * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    float *block = aligned_alloc(ALIGNMENT, bytes > 0 ? bytes : ALIGNMENT);
    if (block != NULL)
        memset(block, 0, bytes);
    return block;
}

/* Hands out consecutive parts of a block; with block == NULL it only counts. */
typedef struct {
    float *block;
    size_t used;
} Cursor;

static float *take(Cursor *cursor, size_t count)
{
    float *part = cursor->block == NULL ? NULL : cursor->block + cursor->used;
    cursor->used += round_up(count);
    return part;
}

static void place_state(Learner *self, Cursor *cursor)
{
    const size_t n = self->param_count, obs = round_up(self->options.obs);
    self->param = take(cursor, n);
    self->target = self->options.target == TARGET_NONE ? self->param : take(cursor, n);
    self->moment1 = take(cursor, n);
    self->moment2 = take(cursor, n);
    self->mean = take(cursor, obs);
    self->inverse_std = take(cursor, obs);
}

static void place_work(Learner *self, Cursor *cursor, size_t capacity)
{
    const Options *options = &self->options;
    self->q = take(cursor, self->layer[self->layers - 1].out * capacity);
    self->outputs = take(cursor, options->actions * options->atoms * capacity);
    self->values = take(cursor, options->actions * capacity);
    self->selector = take(cursor, options->actions * capacity);
    self->policy = take(cursor, options->actions * capacity);
    self->bonus = take(cursor, capacity);
    self->goal = take(cursor, options->atoms * capacity);
    self->chosen = take(cursor, options->atoms * LANES);
    self->transposed = take(cursor, self->widest * larger(self->widest, capacity));
    self->scratch = take(cursor, (1 + options->noisy) * self->widest * BLOCK);
    self->noisy_online = options->noisy ? take(cursor, self->mean_count) : NULL;
    self->noisy_target = options->noisy ? take(cursor, self->mean_count) : NULL;
    self->factors = options->noisy ? take(cursor, 3 * self->widest) : NULL;
    self->grad = options->max_grad_norm > 0 ? take(cursor, self->param_count) : NULL;
    self->bits = (uint64_t *)take(cursor, self->widest * capacity / BLOCK * (sizeof(uint64_t) / sizeof(float)));
    for (size_t l = 0; l < self->layers; l++) {
        Layer *layer = &self->layer[l];
        layer->input = take(cursor, round_up(layer->in) * capacity);
        layer->normal = self->options.layer_norm ? take(cursor, round_up(layer->out) * capacity) : NULL;
        layer->delta = take(cursor, round_up(layer->out) * capacity);
        layer->inverse_std = take(cursor, capacity);
    }
}

bool learner_reserve(Learner *self, size_t batch)
{
    const size_t capacity = round_up(batch);
    if (capacity <= self->capacity)
        return true;
    Learner counted = *self;
    Cursor cursor = {NULL, 0};
    place_work(&counted, &cursor, capacity);
    float *work = allocate(cursor.used);
    if (work == NULL)
        return false;
    free(self->work);
    self->work = work;
    self->acts = self->param; /* noise was in the old one */
    self->capacity = capacity;
    place_work(self, &(Cursor){work, 0}, capacity);
    return true;
}

bool learner_create(Learner *self, const Options *options, size_t batch)
{
    memset(self, 0, sizeof *self);
    self->options = *options;
    self->layers = options->hidden_layers + 1;
    size_t in = options->obs;
    for (size_t l = 0; l < self->layers; l++) {
        const bool head = l + 1 == self->layers;
        const size_t out = head ? (options->actions + options->dueling) * options->atoms : options->hidden[l];
        Layer *layer = &self->layer[l];
        *layer = (Layer){
            .in = in,
            .out = out,
            .head = head,
            .rows = head ? out : in,
            .columns = head ? in : out,
            .weight = self->param_count,
        };
        layer->bias = layer->weight + layer->rows * round_up(layer->columns);
        self->param_count = layer->bias + round_up(out);
        self->widest = larger(self->widest, larger(round_up(in), round_up(out)));
        in = out;
    }
    self->mean_count = self->param_count;
    self->param_count *= 1 + options->noisy;
    Cursor cursor = {NULL, 0};
    place_state(self, &cursor);
    self->state_count = cursor.used;
    self->state = allocate(cursor.used);
    if (self->state == NULL)
        return false;
    place_state(self, &(Cursor){self->state, 0});
    self->acts = self->param;
    if (!learner_reserve(self, batch > 0 ? batch : 1)) {
        learner_free(self);
        return false;
    }
    return true;
}

void learner_free(Learner *self)
{
    free(self->state);
    free(self->work);
    self->state = self->work = NULL;
}

/* Where everything lies: one block for the state, one for the workspace, every array on a cache line. */
#include <stdlib.h>
#include <string.h>

#include "learner.h"
#include "matrix.h"

/* Multiply-adds, some tens of microseconds, below which threads wait longer for each other than they work. */
#define WORTH_SHARING ((size_t)1 << 21)

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
    self->vectors = take(cursor, self->vector_count);
    self->target_vectors = self->options.target == TARGET_NONE ? self->vectors : take(cursor, self->vector_count);
    self->mask = self->options.sparse ? take(cursor, n) : NULL;
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
    self->noisy_online = options->noisy ? take(cursor, self->mean_count) : NULL;
    self->noisy_target = options->noisy ? take(cursor, self->mean_count) : NULL;
    float **divided[] = {&self->divided, &self->divided_before, &self->divided_target};
    for (size_t i = 0; i < 3; i++)
        *divided[i] = options->spectral ? take(cursor, self->param_count) : NULL;
    self->grad = options->max_grad_norm > 0 || options->dynamic || options->spectral ? take(cursor, self->param_count) : NULL;
    for (size_t part = 0; part < learner_parts(self, capacity); part++) {
        Scratch *own = &self->scratch[part];
        own->chosen = take(cursor, options->atoms * LANES);
        own->transposed = take(cursor, self->widest * larger(self->widest, capacity));
        own->weights = take(cursor, (1 + options->noisy) * self->widest * BLOCK);
        own->factors = options->noisy ? take(cursor, 3 * self->widest) : NULL;
        own->bits = (uint64_t *)take(cursor, self->widest * capacity / BLOCK * (sizeof(uint64_t) / sizeof(float)));
    }
    self->own = self->scratch[0];
    for (size_t l = 0; l < self->layers; l++) {
        Layer *layer = &self->layer[l];
        layer->input = take(cursor, round_up(layer->in) * capacity);
        layer->normal = self->options.layer_norm ? take(cursor, round_up(layer->out) * capacity) : NULL;
        layer->delta = take(cursor, round_up(layer->out) * capacity);
        layer->inverse_std = take(cursor, capacity);
    }
}

size_t learner_parts(const Learner *self, size_t size)
{
    const size_t most = size * self->mean_count < WORTH_SHARING ? 1 : size / LANES;
    return most < 1 ? 1 : most < self->threads ? most : self->threads;
}

/* A workspace for `capacity` samples; on false nothing has changed. */
static bool make_room(Learner *self, size_t capacity)
{
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

bool learner_reserve(Learner *self, size_t batch)
{
    return batch <= self->capacity || make_room(self, round_up(batch));
}

bool learner_share(Learner *self, size_t threads)
{
    const size_t before = self->threads;
    self->threads = threads;
    if (make_room(self, self->capacity))
        return true;
    self->threads = before;
    return false;
}

bool learner_create(Learner *self, const Options *options, size_t batch)
{
    memset(self, 0, sizeof *self);
    self->options = *options;
    self->layers = options->hidden_layers + 1;
    self->threads = crew_processors();
    self->pause = -1;
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
        if (options->spectral && !head) {
            layer->left = self->vector_count;
            layer->right = layer->left + round_up(out);
            self->vector_count = layer->right + round_up(in);
        }
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

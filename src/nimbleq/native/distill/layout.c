/* Where everything lies: one block for the state, one for the workspace, every array on a cache line. */
#include <stdlib.h>
#include <string.h>

#include "padded.h"
#include "student.h"

static size_t round_up(size_t count)
{
    const size_t line = ALIGNMENT / sizeof(float);
    return (count + line - 1) / line * line;
}

static float *allocate(size_t count)
{
    const size_t bytes = round_up(count > 0 ? count : 1) * sizeof(float);
    float *block = aligned_alloc(ALIGNMENT, bytes);
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

size_t targets_stride(const Student *self) { return padded(2 * self->options.width[self->options.layers]); }

static void place_state(Student *self, Cursor *cursor)
{
    self->param = take(cursor, self->param_count);
    self->moment1 = take(cursor, self->param_count);
    self->moment2 = take(cursor, self->param_count);
    self->scale = take(cursor, self->layer[0].in_stride);
    self->shift = take(cursor, self->layer[0].in_stride);
    for (size_t l = 0; l < self->options.layers; l++)
        self->layer[l].gain = take(cursor, self->layer[l].in_stride);
}

static void place_work(Student *self, Cursor *cursor)
{
    const size_t actions = padded(self->options.width[self->options.layers]);
    self->grad = take(cursor, self->param_count);
    self->q = take(cursor, actions * CHUNK);
    self->exponential = take(cursor, actions * CHUNK);
    self->rows = take(cursor, targets_stride(self) * CHUNK);
    self->targets = take(cursor, targets_stride(self) * CHUNK);
    for (size_t l = 0; l < self->options.layers; l++) {
        Layer *layer = &self->layer[l];
        layer->rounded = self->options.quantized ? take(cursor, layer->out * layer->in_stride) : NULL;
        layer->transposed = take(cursor, layer->in * layer->out_stride);
        layer->offset = take(cursor, layer->out_stride);
        layer->step = take(cursor, layer->out_stride);
        layer->unit = take(cursor, layer->out_stride);
        layer->input = take(cursor, CHUNK * layer->in_stride);
        layer->real = self->options.quantized ? take(cursor, CHUNK * layer->in_stride) : NULL;
        layer->delta = take(cursor, CHUNK * layer->out_stride);
    }
}

static size_t claim(Student *self, size_t count)
{
    const size_t at = self->param_count;
    self->param_count += round_up(count);
    return at;
}

bool student_create(Student *self, const Options *options)
{
    memset(self, 0, sizeof *self);
    self->options = *options;
    for (size_t l = 0; l < options->layers; l++) {
        const size_t in = options->width[l], out = options->width[l + 1];
        Layer *layer = &self->layer[l];
        *layer = (Layer){.in = in, .out = out, .in_stride = padded(in), .out_stride = padded(out)};
        layer->weight = claim(self, out * layer->in_stride);
        layer->bias = claim(self, layer->out_stride);
    }
    self->weight_count = self->param_count;
    for (size_t l = 0; options->quantized && l < options->layers; l++) {
        self->layer[l].weight_step = claim(self, self->layer[l].out_stride);
        self->layer[l].input_step = claim(self, 1);
    }
    Cursor state = {NULL, 0}, work = {NULL, 0};
    place_state(self, &state);
    place_work(self, &work);
    self->state_count = state.used;
    self->state = allocate(state.used);
    self->work = allocate(work.used);
    if (self->state == NULL || self->work == NULL) {
        student_free(self);
        return false;
    }
    place_state(self, &(Cursor){self->state, 0});
    place_work(self, &(Cursor){self->work, 0});
    return true;
}

void student_free(Student *self)
{
    free(self->state);
    free(self->work);
    self->state = self->work = NULL;
}

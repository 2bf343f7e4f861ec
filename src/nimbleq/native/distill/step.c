/* One gradient step: draw, forward, loss, backward, chunk by chunk; then Adam. */
#include <math.h>
#include <string.h>

#include "../learner/adam.h"
#include "../learner/transpose.h"
#include "loss.h"
#include "lsq.h"
#include "product.h"
#include "student.h"

/* out[columns][out_row] = in[rows][in_row], transposed; rows of `in` are padded to whole vectors, so become those of `out`. */
static void turn(const float *in, size_t in_row, size_t rows, size_t columns, float *out, size_t out_row)
{
    for (size_t r = 0; r < rows; r += LANES)
        for (size_t c = 0; c < columns; c += LANES) {
            vf row[LANES];
            UNROLL for (size_t i = 0; i < LANES; i++) row[i] = r + i < rows ? load(in + (r + i) * in_row + c) : splat(0);
            transpose_vectors(row);
            UNROLL for (size_t i = 0; i < LANES; i++) if (c + i < columns) store(out + (c + i) * out_row + r, row[i]);
        }
}

/* The number at `counter` of a stream: splitmix64 [Steele, Lea, Flood 2014]. `draws` in nimbleq.compress.passes.batches
 * makes the same. */
INLINE uint64_t random_at(uint64_t seed, uint64_t counter)
{
    uint64_t z = seed + (counter + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Rows `first`.. of the batch of this update: sample i is from part i / share. */
static void draw(const Student *self, const Data *data, const Run *run, size_t first, size_t rows, uint64_t *pick)
{
    const uint64_t before = (uint64_t)self->updates * run->share * data->parts + first;
    uint64_t start = 0;
    size_t part = 0, end = run->share;
    for (size_t i = 0; i < rows; i++) {
        for (; first + i >= end; end += run->share)
            start += data->size[part++];
        pick[i] = start + ((random_at(run->seed, before + i) >> 32) * data->size[part] >> 32);
    }
}

static void prefetch(const Student *self, const Data *data, const uint64_t *pick, size_t rows)
{
    const Layer *first = &self->layer[0];
    for (size_t i = 0; i < rows; i++) {
        __builtin_prefetch(data->obs != NULL ? (const void *)(data->obs + pick[i] * first->in_stride)
                                             : (const void *)(data->raw + pick[i] * first->in));
        __builtin_prefetch(data->targets + pick[i] * targets_stride(self));
    }
}

/* A row of `width` floats (whole vectors) that may lie anywhere. */
INLINE void copy_row(const float *from, float *to, size_t width)
{
    for (size_t i = 0; i < width; i += LANES) {
        vf x;
        __builtin_memcpy(&x, from + i, sizeof x);
        store(to + i, x);
    }
}

/* The first layer's input from row `at` of the observations. */
INLINE void read_obs(const Student *self, const float *obs, const unsigned char *raw, size_t at, float *row)
{
    const Layer *first = &self->layer[0];
    if (obs != NULL) {
        copy_row(obs + at * first->in_stride, row, first->in_stride);
        return;
    }
    for (size_t i = 0; i < first->in; i++)
        row[i] = (float)raw[at * first->in + i] * self->scale[i] + self->shift[i];
}

/* The weights that the layers use, rounded when quantized, and their transposes. */
static void prepare(Student *self)
{
    for (size_t l = 0; l < self->options.layers; l++) {
        Layer *layer = &self->layer[l];
        if (self->options.quantized)
            round_layer(self, l);
        else
            memcpy(layer->offset, self->param + layer->bias, layer->out_stride * sizeof(float));
        const float *weight = self->options.quantized ? layer->rounded : self->param + layer->weight;
        turn(weight, layer->in_stride, layer->out, layer->in, layer->transposed, layer->out_stride);
    }
}

/* From the first layer's input to `out` [rows][out_stride of the last layer]. */
static void forward(Student *self, size_t rows, float *out)
{
    for (size_t l = 0; l < self->options.layers; l++) {
        const Layer *layer = &self->layer[l];
        const bool last = l + 1 == self->options.layers, rounds = self->options.quantized;
        float *result = last ? out : rounds ? layer[1].real : layer[1].input;
        const Product sums = {
            .rows = rows, .inner = layer->in, .columns = layer->out_stride,
            .a = layer->input, .a_row = layer->in_stride, .a_step = 1,
            .b = layer->transposed, .b_row = layer->out_stride,
            .c = result, .c_row = layer->out_stride,
            .start = layer->offset,
        };
        product(last || rounds ? AS_IT_IS : RELU, &sums);
        if (rounds)
            round_sums(layer, rows, result);
        if (rounds && !last)
            round_inputs(self, l + 1, rows);
    }
}

/* The last layer's delta from its outputs, which lie there. */
static void loss(Student *self, const Data *data, const Run *run, const uint64_t *pick, size_t rows)
{
    const Layer *last = &self->layer[self->options.layers - 1];
    const size_t size = run->share * data->parts, stride = targets_stride(self), whole = padded(rows);
    for (size_t s = 0; s < rows; s++)
        copy_row(data->targets + pick[s] * stride, self->rows + s * stride, stride);
    turn(self->rows, stride, whole, 2 * last->out, self->targets, CHUNK);
    turn(last->delta, last->out_stride, whole, last->out, self->q, CHUNK);
    for (size_t s = 0; s < rows; s += LANES)
        loss_gradient(self, run, size, s);
    turn(self->q, CHUNK, last->out, rows, last->delta, last->out_stride);
}

/* grad[width] += column sums of delta[rows][width]. */
static void bias_gradient(const float *delta, size_t rows, size_t width, float *grad)
{
    for (size_t i = 0; i < width; i += LANES) {
        vf total[4] = {{0}};
        size_t s = 0;
        for (; s + 4 <= rows; s += 4)
            UNROLL for (size_t j = 0; j < 4; j++) total[j] += load(delta + (s + j) * width + i);
        for (; s < rows; s++)
            total[0] += load(delta + s * width + i);
        store(grad + i, load(grad + i) + ((total[0] + total[1]) + (total[2] + total[3])));
    }
}

static void backward(Student *self, size_t rows)
{
    for (size_t l = self->options.layers; l-- > 0;) {
        const Layer *layer = &self->layer[l];
        float *grad = self->grad + layer->weight;
        const Product weights = {
            .rows = layer->out, .inner = rows, .columns = layer->in_stride,
            .a = layer->delta, .a_row = 1, .a_step = layer->out_stride,
            .b = layer->input, .b_row = layer->in_stride,
            .c = grad, .c_row = layer->in_stride,
            .start = grad, .start_row = layer->in_stride,
        };
        product(AS_IT_IS, &weights);
        bias_gradient(layer->delta, rows, layer->out_stride, self->grad + layer->bias);
        if (l == 0)
            break;
        const Product below = {
            .rows = rows, .inner = layer->out, .columns = layer->in_stride,
            .a = layer->delta, .a_row = layer->out_stride, .a_step = 1,
            .b = self->options.quantized ? layer->rounded : self->param + layer->weight, .b_row = layer->in_stride,
            .c = layer[-1].delta, .c_row = layer->in_stride,
            .positive = layer->input,
        };
        product(self->options.quantized ? AS_IT_IS : WHERE_POSITIVE, &below);
        if (self->options.quantized)
            lsq_input_gradients(self, l, rows);
    }
}

static void descend(Student *self, const Run *run)
{
    const double done = (double)self->updates / (double)run->total;
    const double lr = run->lr * 0.5 * (1.0 + cos(3.14159265358979323846 * done));
    const size_t count = self->updates < run->frozen_from ? self->param_count : self->weight_count;
    AdamStep step = adam_step(lr, self->options.adam_eps, 0.0, self->updates);
    if (self->options.max_grad_norm > 0) {
        vf squares = splat(0);
        for (size_t i = 0; i < count; i += LANES)
            squares += load(self->grad + i) * load(self->grad + i);
        const float factor = (float)self->options.max_grad_norm / (sqrtf(sum(squares)) + 1e-6f);
        step.grad_factor = factor > 1.0f ? 1.0f : factor; /* a NaN norm must not look like "no clipping" */
    }
    const AdamArrays arrays = {self->param, self->moment1, self->moment2, NULL};
    for (size_t i = 0; i < count; i += LANES)
        adam_vector(&arrays, i, load(self->grad + i) * step.grad_factor, &step);
}

void student_update(Student *self, const Data *data, const Run *run)
{
    const FloatMode mode = flush_denormals();
    const size_t size = run->share * data->parts;
    uint64_t pick[2][CHUNK];
    prepare(self);
    memset(self->grad, 0, self->param_count * sizeof *self->grad);
    draw(self, data, run, 0, size < CHUNK ? size : CHUNK, pick[0]);
    for (size_t first = 0, turn = 0; first < size; first += CHUNK, turn ^= 1) {
        const size_t rows = size - first < CHUNK ? size - first : CHUNK, next = first + rows;
        if (next < size) {
            const size_t ahead = size - next < CHUNK ? size - next : CHUNK;
            draw(self, data, run, next, ahead, pick[turn ^ 1]);
            prefetch(self, data, pick[turn ^ 1], ahead);
        }
        for (size_t s = 0; s < rows; s++)
            read_obs(self, data->obs, data->raw, pick[turn][s], self->layer[0].input + s * self->layer[0].in_stride);
        forward(self, rows, self->layer[self->options.layers - 1].delta);
        loss(self, data, run, pick[turn], rows);
        backward(self, rows);
    }
    for (size_t l = 0; self->options.quantized && l < self->options.layers; l++)
        lsq_weight_gradients(self, l);
    descend(self, run);
    self->updates++;
    restore_float_mode(mode);
}

void student_q(Student *self, const float *obs, const unsigned char *raw, size_t count, float *q)
{
    const FloatMode mode = flush_denormals();
    const Layer *last = &self->layer[self->options.layers - 1];
    prepare(self);
    for (size_t first = 0; first < count; first += CHUNK) {
        const size_t rows = count - first < CHUNK ? count - first : CHUNK;
        for (size_t s = 0; s < rows; s++)
            read_obs(self, obs, raw, first + s, self->layer[0].input + s * self->layer[0].in_stride);
        forward(self, rows, last->delta);
        for (size_t s = 0; s < rows; s++)
            memcpy(q + (first + s) * last->out, last->delta + s * last->out_stride, last->out * sizeof *q);
    }
    restore_float_mode(mode);
}

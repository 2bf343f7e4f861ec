/* The kernels of every step, for the instruction set that the including file names: LANES floats fill a vector. What
   they compute is fixed by nimbleq.graph.kernels. The including file defines NQ_KERNELS, the name of the table. */
#include <float.h>
#include <stdint.h>
#include <string.h>

#include "program.h"

#include "../kernels/activations.h"
#include "../kernels/activate.h"
#include "../kernels/requantize.h"
#include "../kernels/quantize.h"
#include "../kernels/real.h"
#include "../kernels/sqrt.h"
#include "../kernels/norm.h"
#include "../kernels/exp.h"
#include "../kernels/expectation.h"
#include "../kernels/tanh.h"
#include "../kernels/argmax_f32.h"
#include "../kernels/argmax_i32.h"
#include "../kernels/argmax_masked_f32.h"
#include "../kernels/argmax_masked_i32.h"

static inline const void *source(const Run *run, int32_t place)
{
    return place == NQ_OBS ? run->obs : run->arena + place;
}

#define X(kind) ((const kind *)source(run, step->x))
#define Y(kind) ((kind *)(void *)(run->arena + step->y))

/* `body` once for each type of integers, with it as T. */
#define INTEGERS(type, body)                          \
    switch (type) {                                   \
    case NQ_I32: { typedef int32_t T; body } break;   \
    case NQ_I16: { typedef int16_t T; body } break;   \
    case NQ_I8: { typedef int8_t T; body } break;     \
    case NQ_U8: { typedef uint8_t T; body } break;    \
    default: break;                                   \
    }

/* `body` for every i of `count`, where c says which entry of the parameters element i uses. */
#define PERIODS(count, period, body)                  \
    for (int o = 0; o < (count); o += (period))       \
        for (int c = 0; c < (period); ++c) {          \
            const int i = o + c;                      \
            body                                      \
        }

static void permute(const Step *step, Run *run)
{
    const Permute *p = &step->permute;
    const int rows = p->rows, cols = p->cols;
#define PERMUTE(T)                                                                          \
    for (int b = 0; b < p->repeat; ++b) {                                                   \
        const T *x = X(T) + (size_t)b * (size_t)(rows * cols);                              \
        T *y = Y(T) + (size_t)b * (size_t)(rows * cols);                                    \
        for (int j = 0; j < cols; ++j)                                                      \
            for (int i = 0; i < rows; ++i) y[j * rows + i] = x[i * cols + j];               \
    }
    if (p->item == 1) PERMUTE(uint8_t)
    else if (p->item == 2) PERMUTE(uint16_t)
    else PERMUTE(uint32_t)
#undef PERMUTE
}

static void copy(const Step *step, Run *run)
{
    const Copy *m = &step->copy;
    const size_t item = (size_t)m->item;
    const char *x = X(char) + (size_t)m->x_start * item;
    char *y = Y(char) + (size_t)m->y_start * item;
    for (int o = 0; o < m->outer; ++o, x += (size_t)m->x_step * item, y += (size_t)m->y_step * item)
        memmove(y, x, (size_t)m->part * item);
}

static void convert(const Step *step, Run *run)
{
    const Convert *v = &step->convert;
    const int count = v->count;
    const int32_t offset = v->offset;
    if (v->type_y == NQ_F32) {
        INTEGERS(v->type_x, const T *x = X(T); float *y = Y(float); for (int i = 0; i < count; ++i) y[i] = (float)x[i];)
    } else if (v->type_y == NQ_I32) {
        INTEGERS(v->type_x, const T *x = X(T); int32_t *y = Y(int32_t); for (int i = 0; i < count; ++i) y[i] = x[i];)
    } else if (v->type_y == NQ_I16) {
        INTEGERS(v->type_x, const T *x = X(T); int16_t *y = Y(int16_t);
                 for (int i = 0; i < count; ++i) y[i] = (int16_t)x[i];)
    } else {
        INTEGERS(v->type_x, const T *x = X(T); uint8_t *y = Y(uint8_t);
                 for (int i = 0; i < count; ++i) y[i] = (uint8_t)((uint32_t)x[i] + (uint32_t)offset);)
    }
}

static void border(const Step *step, Run *run)
{
    const Border *b = &step->border;
    const int line = b->line + 2 * b->beside, lines = b->height + 2 * b->above;
#define BORDER(T)                                                                                             \
    {                                                                                                         \
        const T *x = X(T);                                                                                    \
        T *y = Y(T);                                                                                          \
        for (int i = 0; i < lines * line; ++i) y[i] = (T)b->value;                                            \
        for (int r = 0; r < b->height; ++r)                                                                   \
            memcpy(y + (size_t)(r + b->above) * (size_t)line + b->beside, x + (size_t)r * (size_t)b->line,    \
                   (size_t)b->line * sizeof(T));                                                              \
    }
    if (b->type == NQ_F32) BORDER(float)
    else INTEGERS(b->type, BORDER(T))
#undef BORDER
}

static void affine(const Step *step, Run *run)
{
    const Each *e = &step->each;
    const float *x = X(float), *scale = step->constant[0], *shift = step->constant[1];
    float *y = Y(float);
    PERIODS(e->count, e->period, y[i] = (float)((double)x[i] * (double)scale[c] + (double)shift[c]);)
}

static void activate(const Step *step, Run *run)
{
    const Each *e = &step->each;
    const float *x = X(float), low = step->real[0], high = step->real[1];
    float *y = Y(float);
    for (int i = 0; i < e->count; ++i) y[i] = nq_activate(x[i], e->function, low, high);
}

static void add(const Step *step, Run *run)
{
    const float *x = X(float), *other = source(run, step->each.other);
    float *y = Y(float);
    for (int i = 0; i < step->each.count; ++i) y[i] = x[i] + other[i];
}

static void dueling(const Step *step, Run *run)
{
    const int count = step->each.count;
    const float value = X(float)[0], *advantage = source(run, step->each.other);
    float *y = Y(float), mean = 0.0f;
    for (int i = 0; i < count; ++i) mean += advantage[i];
    mean /= (float)count;
    for (int i = 0; i < count; ++i) y[i] = value + advantage[i] - mean;
}

static void expectation(const Step *step, Run *run)
{
    const Each *e = &step->each;
    for (int a = 0; a < e->count; ++a)
        Y(float)[a] = nq_expectation(X(float) + (size_t)a * (size_t)e->atoms, step->constant[0], e->atoms);
}

static void tangent(const Step *step, Run *run)
{
    for (int i = 0; i < step->each.count; ++i) Y(float)[i] = nq_tanh(X(float)[i]);
}

static void layer_norm(const Step *step, Run *run)
{
    const int count = step->each.count;
    const float *weight = step->constant[0], *bias = step->constant[1];
    float *y = Y(float);
    nq_normalise(X(float), y, count, step->real[0]);
    if (weight != NULL)
        for (int i = 0; i < count; ++i) y[i] *= weight[i];
    if (bias != NULL)
        for (int i = 0; i < count; ++i) y[i] += bias[i];
}

/* `body` for each channel of each window, around `each` for each value v in it. */
#define POOL(T, S, start, each, result)                                                                       \
    for (int r = 0; r < p->rows; ++r)                                                                         \
        for (int s = 0; s < p->cols; ++s)                                                                     \
            for (int c = 0; c < p->channels; ++c) {                                                           \
                S best = start;                                                                               \
                int any = 0;                                                                                  \
                for (int a = 0; a < p->kernel_y; ++a)                                                         \
                    for (int b = 0; b < p->kernel_x; ++b) {                                                   \
                        const int h = r * p->stride_y + a - p->padding_y, w = s * p->stride_x + b - p->padding_x; \
                        if (h < 0 || h >= p->height || w < 0 || w >= p->width) continue;                      \
                        const T v = X(T)[((size_t)h * (size_t)p->width + (size_t)w) * (size_t)p->channels + (size_t)c]; \
                        each                                                                                  \
                    }                                                                                         \
                (void)any;                                                                                    \
                Y(S)[((size_t)r * (size_t)p->cols + (size_t)s) * (size_t)p->channels + (size_t)c] = result;   \
            }

static void pool(const Step *step, Run *run)
{
    const Pool *p = &step->pool;
    const float size = (float)(p->kernel_y * p->kernel_x);
    if (p->function == NQ_AVERAGE) {
        POOL(float, float, 0.0f, best += v;, best / size)
    } else if (p->function == NQ_SUM) {
        INTEGERS(p->type, POOL(T, int32_t, 0, best = (int32_t)((uint32_t)best + (uint32_t)v);, best))
    } else if (p->type == NQ_F32) {
        POOL(float, float, 0.0f, best = !any || v > best ? v : best; any = 1;, best)
    } else {
        INTEGERS(p->type, POOL(T, T, 0, best = !any || v > best ? v : best; any = 1;, best))
    }
}

static void quantize(const Step *step, Run *run)
{
    const Each *e = &step->each;
    const float *x = X(float), *inverse = step->constant[0];
    const int32_t *zero = step->constant[1];
    INTEGERS(e->type_y, T *y = Y(T);
             PERIODS(e->count, e->period, y[i] = (T)nq_quantize(x[i], inverse[c], zero[c], e->low, e->high);))
}

static void dequantize(const Step *step, Run *run)
{
    const Each *e = &step->each;
    const float *scale = step->constant[0];
    const int32_t *zero = step->constant[1];
    float *y = Y(float);
    INTEGERS(e->type_x, const T *x = X(T);
             PERIODS(e->count, e->period, y[i] = nq_real((int64_t)x[i] - zero[c]) * scale[c];))
}

static void requantize(const Step *step, Run *run)
{
    const Each *e = &step->each;
    const int32_t *multiplier = step->constant[0], *shift = step->constant[1], *x = X(int32_t);
    INTEGERS(e->type_y, T *y = Y(T); PERIODS(e->count, e->period,
             y[i] = (T)nq_requantize(x[i], multiplier[c], shift[c], e->zero_point, e->low, e->high);))
}

static void leaf(const Step *step, Run *run, int n)
{
    const Tree *t = &step->tree;
    if (t->leaf_is_action) {
        const int32_t action = ((const int32_t *)step->constant[2])[n];
        for (int a = 0; a < t->actions; ++a) Y(float)[a] = action == a ? 1.0f : 0.0f;
    } else if (t->type_y == NQ_F32) {
        memcpy(Y(float), (const float *)step->constant[2] + (size_t)n * (size_t)t->actions, 4 * (size_t)t->actions);
    } else {
        const int32_t *row = (const int32_t *)step->constant[2] + (size_t)n * (size_t)t->actions;
        for (int a = 0; a < t->actions; ++a) Y(int8_t)[a] = (int8_t)row[a];
    }
}

static void oblique_tree(const Step *step, Run *run)
{
    const Tree *t = &step->tree;
    int n = 0;
#define WALK(T, W, S)                                                                                        \
    for (int level = 0; level < t->depth; ++level) {                                                         \
        const W *w = (const W *)step->constant[0] + (size_t)n * (size_t)t->features;                         \
        S sum = 0;                                                                                           \
        for (int k = 0; k < t->features; ++k) sum += (S)X(T)[k] * (S)w[k];                                   \
        n = 2 * n + 1 + (sum > (S)((const W *)step->constant[1])[n]);                                        \
    }
    if (!t->real) INTEGERS(t->type_x, WALK(T, int32_t, int64_t))
    else if (t->type_x == NQ_F32) WALK(float, float, double)
    else INTEGERS(t->type_x, WALK(T, float, double))
#undef WALK
    leaf(step, run, n + 1 - (1 << t->depth));
}

static void axis_tree(const Step *step, Run *run)
{
    const Tree *t = &step->tree;
    const int32_t *feature = step->constant[0];
    const double *threshold = step->constant[1];
    int n = 0;
#define WALK(T) \
    for (int level = 0; level < t->depth; ++level) n = 2 * n + 1 + ((double)X(T)[feature[n]] > threshold[n]);
    if (t->type_x == NQ_F32) WALK(float)
    else INTEGERS(t->type_x, WALK(T))
#undef WALK
    leaf(step, run, n + 1 - (1 << t->depth));
}

static void argmax(const Step *step, Run *run)
{
    const ArgMax *a = &step->argmax;
    if (a->type_x == NQ_F32) {
        run->action = a->masked ? nq_argmax_masked_f32(X(float), run->mask, a->count) : nq_argmax_f32(X(float), a->count);
    } else if (a->type_x == NQ_I32) {
        run->action = a->masked ? nq_argmax_masked_i32(X(int32_t), run->mask, a->count)
                                : nq_argmax_i32(X(int32_t), a->count);
    } else {
        int best = -1;
        INTEGERS(a->type_x, for (int i = 0; i < a->count; ++i)
                     if ((!a->masked || run->mask[i] != 0) && (best < 0 || X(T)[i] > X(T)[best])) best = i;)
        run->action = best;
    }
}

#include "sums.h"
#include "scatter.h"

const Kernel NQ_KERNELS[NQ_OPS] = {
    permute, copy, convert, border, affine, activate, tangent, add, dueling, expectation, layer_norm, pool, quantize, dequantize,
    requantize, sums_f32, dots_f32, sums_u8, sums_i16, sparse_f32, sparse_int, scatter_f32, scatter_int, oblique_tree, axis_tree, argmax,
};

/* Backward linear bounds (CROWN, Zhang et al. 2018, arXiv 1811.00866), some rows at a time so that they stay in cache. */
#ifndef NQ_ROBUST_BOUNDS_H
#define NQ_ROBUST_BOUNDS_H

#include "relax.h"

#define ROWS 32 /* bounded at once; a multiple of 4 */

typedef double v4 __attribute__((vector_size(32)));
typedef int64_t v4bits __attribute__((vector_size(32)));

static inline v4 positive(v4 x)
{
    return (v4)((v4bits)x & (x > (v4){0, 0, 0, 0}));
}

static inline v4 magnitude(v4 x)
{
    return (v4)((v4bits)x & INT64_MAX);
}

static inline double sum_of(v4 x)
{
    return x[0] + x[1] + x[2] + x[3];
}

/* What one search works with. */
typedef struct {
    Lines *lines;    /* of each layer */
    double **slack;  /* of each layer's sums, over the whole question */
    double **factor; /* [1 + layers][ROWS][stride] of the values of each layer */
    bool *present;   /* whether that layer's factors are in use */
    double *sums;    /* [ROWS][widest] */
    double *total;   /* [ROWS] */
    size_t *active;  /* [widest] */
    size_t *unit;    /* [widest] sums to bound */
} Work;

/* Sum i of a layer, from the values that it reads. */
static inline double sum_at(const Network *net, const Layer *layer, size_t i, double *const *values)
{
    v4 sum = {layer->bias[i], 0, 0, 0};
    for (size_t s = 0; s < layer->sources; s++) {
        const size_t source = layer->source[s], stride = value_stride(net, source), *column = layer->column[s];
        const double *row = layer->matrix[s] + i * stride, *v = values[source];
        if (column != NULL) {
            for (size_t j = 0; j < FEW; j++)
                sum[0] += row[column[i * FEW + j]] * v[column[i * FEW + j]];
            continue;
        }
        for (size_t j = 0; j < stride; j += 4)
            sum += *(const v4 *)&row[j] * *(const v4 *)&v[j];
    }
    return sum_of(sum);
}

/* As `product`, for one row. */
static inline void row_product(const double *sums, const size_t *active, size_t count, const double *matrix,
                               size_t columns, double *out, bool add)
{
    if (!add)
        memset(out, 0, columns * sizeof(double));
    for (size_t a = 0; a < count; a++) {
        const double s = sums[active[a]], *row = matrix + active[a] * columns;
        if (s != 0)
            for (size_t c = 0; c < columns; c += 4)
                *(v4 *)&out[c] += s * *(const v4 *)&row[c];
    }
}

/* out[r][c] (+)= sum over active i of sums[r][i]·matrix[i][c]; rows a multiple of 4, columns of 8. */
static inline void product(const double *sums, size_t sums_stride, const size_t *active, size_t count, size_t rows,
                           const double *matrix, size_t columns, double *out, bool add)
{
    for (size_t r = 0; r < rows; r += 4)
        for (size_t c = 0; c < columns; c += LANES) {
            v4 acc[4][2];
            for (size_t k = 0; k < 4; k++)
                for (size_t h = 0; h < 2; h++)
                    acc[k][h] = add ? *(const v4 *)&out[(r + k) * columns + c + 4 * h] : (v4){0, 0, 0, 0};
            for (size_t a = 0; a < count; a++) {
                const size_t i = active[a];
                const v4 m0 = *(const v4 *)&matrix[i * columns + c], m1 = *(const v4 *)&matrix[i * columns + c + 4];
                for (size_t k = 0; k < 4; k++) {
                    const double s = sums[(r + k) * sums_stride + i];
                    acc[k][0] += s * m0, acc[k][1] += s * m1;
                }
            }
            for (size_t k = 0; k < 4; k++)
                for (size_t h = 0; h < 2; h++)
                    *(v4 *)&out[(r + k) * columns + c + 4 * h] = acc[k][h];
        }
}

/* As `product`, for a matrix with few factors in a row. */
static inline void few_product(const double *sums, size_t sums_stride, const size_t *active, size_t count, size_t rows,
                               const double *matrix, const size_t *column, size_t columns, double *out, bool add)
{
    if (!add)
        memset(out, 0, rows * columns * sizeof(double));
    for (size_t r = 0; r < rows; r++)
        for (size_t a = 0; a < count; a++)
            for (size_t j = 0; j < FEW; j++) {
                const size_t c = column[active[a] * FEW + j];
                out[r * columns + c] += sums[r * sums_stride + active[a]] * matrix[active[a] * columns + c];
            }
}

/* Factors of a layer's sums from those of its values, for one row; returns what is added to the bound. */
static inline double through_lines(const Layer *layer, const Lines *at, const double *slack, const double *factor,
                                   double *sums)
{
    v4 total = {0, 0, 0, 0};
    for (size_t i = 0; i < layer->stride; i += 4) {
        const v4 f = *(const v4 *)&factor[i], up = positive(f), down = f - up;
        const v4 s = up * *(const v4 *)&at->below[i] + down * *(const v4 *)&at->above[i];
        total += up * *(const v4 *)&at->below_at[i] + down * *(const v4 *)&at->above_at[i];
        total += s * *(const v4 *)&layer->bias[i] - magnitude(s) * *(const v4 *)&slack[i];
        *(v4 *)&sums[i] = s;
    }
    return sum_of(total);
}

/* Lower bounds of the rows in work->factor of layers 0 … top, linear in the inputs: their slopes are left in
   work->factor[0], their constants are added to work->total; 1 row or a multiple of 4. */
static void backward(const Network *net, Work *work, size_t top, size_t rows)
{
    for (size_t k = top; k > 0; k--) {
        if (!work->present[k])
            continue;
        work->present[k] = false;
        const Layer *layer = &net->layer[k - 1];
        const Lines *at = &work->lines[k - 1];
        for (size_t r = 0; r < rows; r++)
            work->total[r] += through_lines(layer, at, work->slack[k - 1], work->factor[k] + r * layer->stride,
                                            work->sums + r * layer->stride);
        size_t count = 0;
        for (size_t i = 0; i < layer->size; i++)
            if (at->below[i] != 0 || at->above[i] != 0)
                work->active[count++] = i;
        for (size_t s = 0; s < layer->sources; s++) {
            const size_t source = layer->source[s];
            const size_t stride = value_stride(net, source);
            if (layer->column[s] != NULL)
                few_product(work->sums, layer->stride, work->active, count, rows, layer->matrix[s], layer->column[s],
                            stride, work->factor[source], work->present[source]);
            else if (rows == 1)
                row_product(work->sums, work->active, count, layer->matrix[s], stride, work->factor[source],
                            work->present[source]);
            else
                product(work->sums, layer->stride, work->active, count, rows, layer->matrix[s], stride,
                        work->factor[source], work->present[source]);
            work->present[source] = true;
        }
    }
    if (!work->present[0])
        memset(work->factor[0], 0, rows * net->stride * sizeof(double));
    work->present[0] = false;
}

/* Least value of slopes·x over a box. */
static inline double least(size_t inputs, const double *slopes, const double *low, const double *high)
{
    double total = 0.0;
    for (size_t j = 0; j < inputs; j++)
        total += slopes[j] * (slopes[j] > 0 ? low[j] : high[j]);
    return total;
}

/* Intervals of a layer's sums from those of the values it reads; and, where slack is given, their rounding errors. */
static void intervals(const Network *net, size_t k, double *const *low, double *const *high, double *sum_low,
                      double *sum_high, double *slack)
{
    const Layer *layer = &net->layer[k];
    for (size_t i = 0; i < layer->size; i++) {
        v4 middle = {layer->bias[i], 0, 0, 0}, radius = {0, 0, 0, 0}, size = {fabs(layer->bias[i]) + TINY, 0, 0, 0};
        for (size_t s = 0; s < layer->sources; s++) {
            const size_t source = layer->source[s], stride = value_stride(net, source);
            const double *row = layer->matrix[s] + i * stride;
            for (size_t j = 0; j < stride; j += 4) {
                const v4 w = *(const v4 *)&row[j], a = *(const v4 *)&low[source][j], b = *(const v4 *)&high[source][j];
                middle += w * 0.5 * (a + b);
                radius += magnitude(w) * 0.5 * (b - a);
                size += magnitude(w) * (magnitude(a) + positive(magnitude(b) - magnitude(a)));
            }
        }
        if (slack != NULL)
            slack[i] = layer->slack * sum_of(size);
        sum_low[i] = sum_of(middle) - sum_of(radius), sum_high[i] = sum_of(middle) + sum_of(radius);
    }
}

/* Narrow the sums' bounds in sum_low and sum_high by backward passes where that can help. */
static void narrow(const Network *net, Work *work, size_t k, const double *low, const double *high, double *sum_low,
                   double *sum_high)
{
    const Layer *layer = &net->layer[k];
    size_t count = 0;
    for (size_t i = 0; i < layer->size; i++)
        if (undecided(layer, i, sum_low[i], sum_high[i]))
            work->unit[count++] = i;
    for (size_t done = 0; done < count; done += ROWS / 2) {
        const size_t here = count - done < ROWS / 2 ? count - done : ROWS / 2, rows = (2 * here + 3) / 4 * 4;
        memset(work->total, 0, sizeof(double) * ROWS);
        for (size_t s = 0; s < layer->sources; s++) {
            const size_t source = layer->source[s], stride = value_stride(net, source);
            double *factor = work->factor[source];
            memset(factor, 0, rows * stride * sizeof(double));
            for (size_t u = 0; u < here; u++) {
                const double *row = layer->matrix[s] + work->unit[done + u] * stride;
                for (size_t j = 0; j < stride; j++)
                    factor[2 * u * stride + j] = row[j], factor[(2 * u + 1) * stride + j] = -row[j];
            }
            work->present[source] = true;
        }
        backward(net, work, k, rows);
        for (size_t u = 0; u < here; u++) {
            const size_t i = work->unit[done + u];
            const double slack = work->slack[k][i], bias = layer->bias[i];
            const double *slopes = work->factor[0] + 2 * u * net->stride;
            sum_low[i] = larger(sum_low[i], work->total[2 * u] + least(net->inputs, slopes, low, high) + bias - slack);
            slopes += net->stride;
            sum_high[i] =
                smaller(sum_high[i], bias - work->total[2 * u + 1] - least(net->inputs, slopes, low, high) + slack);
        }
    }
}

/* The lines of every layer over a box. sum_low and sum_high bound all sums over a larger box, and are narrowed; at the
   root they are found from nothing, and so are the rounding errors. */
static void relax_box(const Network *net, Work *work, const double *low, const double *high, double *sum_low,
                      double *sum_high, bool root, double **value_low, double **value_high)
{
    memcpy(value_low[0], low, net->inputs * sizeof(double));
    memcpy(value_high[0], high, net->inputs * sizeof(double));
    for (size_t k = 0; k < net->layers; k++) {
        const Layer *layer = &net->layer[k];
        double *a = sum_low + layer->start, *b = sum_high + layer->start;
        const bool first = layer->sources == 1 && layer->source[0] == 0;
        if (root || first) {
            intervals(net, k, value_low, value_high, a, b, root ? work->slack[k] : NULL);
            for (size_t i = 0; i < layer->size; i++)
                a[i] -= work->slack[k][i], b[i] += work->slack[k][i];
        }
        if (!first)
            narrow(net, work, k, low, high, a, b);
        for (size_t i = 0; i < layer->size; i++) {
            if (layer->integer)
                a[i] = ceil(a[i]), b[i] = floor(b[i]);
            b[i] = larger(a[i], b[i]);
        }
        relax(layer, a, b, work->lines[k]);
        memcpy(value_low[k + 1], work->lines[k].low, layer->size * sizeof(double));
        memcpy(value_high[k + 1], work->lines[k].high, layer->size * sizeof(double));
    }
}

#endif

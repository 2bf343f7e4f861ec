/* A network to bound, as nimbleq/compress/robust/network.py has it: layers of affine sums, each with one function. */
#ifndef NQ_ROBUST_NETWORK_H
#define NQ_ROBUST_NETWORK_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8 /* rows of matrices are padded with zeros to a multiple of this */
#define TINY 1e-20
#define FEW 2

typedef struct {
    size_t size, stride; /* sums; and rounded up to LANES */
    size_t start;        /* of its sums among those of all layers, each with its stride */
    size_t sources;
    size_t *source;  /* 0: the inputs, k: values of layer k */
    double **matrix; /* [size][stride of the source] */
    size_t **column; /* [size][FEW] where its few factors are, if no row has more; else NULL */
    double *bias;    /* [stride] */
    double *scale, *zero;
    int64_t *multiplier, *shift; /* NULL without an exact requantization */
    double low, high, slope, eps; /* eps < 0: no division by the norm */
    double slack;
    bool rounds, integer;
} Layer;

typedef struct {
    size_t inputs, stride; /* and rounded up to LANES */
    size_t layers, outputs;
    size_t sums;   /* of all layers, with their strides */
    size_t widest; /* largest stride, that of the inputs included */
    Layer *layer;
    size_t *output_layer, *output_unit;
    bool integer, exact;
} Network;

/* Without the library's care for NaN: then they are one instruction. With NaN no bound is above 0 and no point holds. */
static inline double larger(double a, double b)
{
    return a > b ? a : b;
}

static inline double smaller(double a, double b)
{
    return a < b ? a : b;
}

static inline size_t padded(size_t count)
{
    return (count + LANES - 1) / LANES * LANES;
}

/* Zeroed, aligned for vectors; NULL when there is no memory. */
static inline double *new_doubles(size_t count)
{
    const size_t bytes = padded(count > 0 ? count : 1) * sizeof(double);
    double *made = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (made != NULL)
        memset(made, 0, bytes);
    return made;
}

static inline size_t value_stride(const Network *net, size_t layer)
{
    return layer == 0 ? net->stride : net->layer[layer - 1].stride;
}

static inline size_t value_size(const Network *net, size_t layer)
{
    return layer == 0 ? net->inputs : net->layer[layer - 1].size;
}

static inline double clamped(const Layer *f, double t)
{
    return t < f->low ? f->low + f->slope * (t - f->low) : t < f->high ? t : f->high;
}

/* The function of one sum; not for a division by the norm. */
static inline double apply(const Layer *f, size_t i, double sum)
{
    if (!f->rounds)
        return clamped(f, sum * f->scale[i] + f->zero[i]);
    double level;
    if (f->multiplier == NULL)
        level = floor(sum * f->scale[i] + 0.5);
    else
        level = (double)(((int64_t)sum * f->multiplier[i] + (INT64_C(1) << (f->shift[i] - 1))) >> f->shift[i]);
    return smaller(larger(level + f->zero[i], f->low), f->high);
}

#endif

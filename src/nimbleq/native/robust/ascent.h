/* A better lower bound of the largest of some rows over a box: ascent on the mixture of rows and on the slopes of lower
   lines (alpha-CROWN, Xu et al. 2021, arXiv 2011.13824), with the bounds of all sums as they are. */
#ifndef NQ_ROBUST_ASCENT_H
#define NQ_ROBUST_ASCENT_H

#include "bounds.h"

#define STEPS 12
#define FIRST_STEP 0.35
#define SHRINK 0.8

typedef struct {
    Lines *lines;       /* of each layer: own lower lines, the upper ones as they are */
    double **average;   /* [layers] running mean of squared gradients */
    double *mix;        /* [rows of the question] weight of each row */
    double **values;    /* [1 + layers] */
} Ascent;

/* A unit whose lower line may have any slope between f->slope and 1: a corner below, none above. */
static inline bool flexible(const Layer *f, const Lines *at, size_t i)
{
    return f->eps < 0 && at->below[i] != at->above[i] && at->low[i] <= f->low && at->high[i] < f->high;
}

/* The values that attain the bound: forward along the lines that the backward pass took, from the best corner. */
static void along_lines(const Network *net, const Work *work, const Ascent *ascent)
{
    for (size_t k = 0; k < net->layers; k++) {
        const Layer *f = &net->layer[k];
        const Lines *at = &ascent->lines[k];
        const double *factor = work->factor[k + 1];
        double *value = ascent->values[k + 1];
        for (size_t i = 0; i < f->size; i++) {
            const bool up = factor[i] > 0;
            const double slope = up ? at->below[i] : at->above[i], shift = up ? at->below_at[i] : at->above_at[i];
            value[i] = slope != 0 ? slope * sum_at(net, f, i, ascent->values) + shift : shift;
        }
    }
}

/* Move the lower lines uphill. */
static void step_lines(const Network *net, const Work *work, const Ascent *ascent, int step, double rate)
{
    const double decay = 0.9, correction = 1.0 - pow(decay, step + 1);
    for (size_t k = 0; k < net->layers; k++) {
        const Layer *f = &net->layer[k];
        const Lines *at = &ascent->lines[k];
        const double *factor = work->factor[k + 1];
        for (size_t i = 0; i < f->size; i++) {
            if (!(factor[i] > 0) || !flexible(f, &work->lines[k], i))
                continue;
            const double t = sum_at(net, f, i, ascent->values) * f->scale[i] + f->zero[i], slope = at->below[i] / f->scale[i];
            const double gradient = factor[i] * (t - f->low);
            double *average = &ascent->average[k][i];
            *average = decay * *average + (1 - decay) * gradient * gradient;
            const double moved = slope + rate * gradient / (sqrt(*average / correction) + 1e-30);
            const double chosen = smaller(larger(moved, f->slope), 1.0);
            at->below[i] = chosen * f->scale[i];
            at->below_at[i] = f->low - chosen * f->low + chosen * f->zero[i] - (f->rounds && chosen > 0 ? 0.5 : 0.0);
        }
    }
}

/* The rows of a question as factors of layer values, mixed into one; returns the highest layer. */
static size_t mixed_row(const Network *net, Work *work, const double *rows, size_t count, const double *mix)
{
    size_t top = 0;
    for (size_t o = 0; o < net->outputs; o++) {
        const size_t layer = net->output_layer[o];
        if (!work->present[layer])
            memset(work->factor[layer], 0, value_stride(net, layer) * sizeof(double));
        work->present[layer] = true;
        top = layer > top ? layer : top;
        double factor = 0.0;
        for (size_t r = 0; r < count; r++)
            if (mix[r] != 0)
                factor += mix[r] * rows[r * net->outputs + o];
        work->factor[layer][net->output_unit[o]] += factor;
    }
    return top;
}

/* Improve a bound that is not above 0: returns the best one, with its slopes in `slopes`, or stops as soon as it is
   above 0. ascent->mix holds the weights of the rows to start from; `own` says which rows belong to the case. */
static double ascend(const Network *net, Work *work, Ascent *ascent, const double *rows, const double *bounds,
                     const bool *own, size_t count, const double *low, const double *high, double best, double *slopes)
{
    Lines *const found = work->lines;
    for (size_t k = 0; k < net->layers; k++) {
        const size_t bytes = net->layer[k].stride * sizeof(double);
        memcpy(ascent->lines[k].below, found[k].below, bytes);
        memcpy(ascent->lines[k].below_at, found[k].below_at, bytes);
        ascent->lines[k].above = found[k].above, ascent->lines[k].above_at = found[k].above_at;
        memset(ascent->average[k], 0, bytes);
    }
    double rate = FIRST_STEP, before = best;
    for (int step = 0; step < STEPS && best <= 0; step++, rate *= SHRINK) {
        double bound = 0.0;
        for (size_t r = 0; r < count; r++)
            bound -= ascent->mix[r] * bounds[r];
        const size_t top = mixed_row(net, work, rows, count, ascent->mix);
        for (size_t k = 1; k <= net->layers; k++)
            if (!work->present[k])
                memset(work->factor[k], 0, net->layer[k - 1].stride * sizeof(double));
        work->lines = ascent->lines;
        work->total[0] = bound;
        backward(net, work, top, 1);
        bound = work->total[0] + least(net->inputs, work->factor[0], low, high);
        if (bound > best) {
            best = bound;
            memcpy(slopes, work->factor[0], net->inputs * sizeof(double));
        }
        work->lines = found;
        /* Give up when what is missing is far more than what was won last. */
        if (step % 3 == 2) {
            if (best <= 0 && -best > 8.0 * (best - before))
                break;
            before = best;
        }
        for (size_t j = 0; j < net->inputs; j++)
            ascent->values[0][j] = work->factor[0][j] > 0 ? low[j] : high[j];
        along_lines(net, work, ascent);
        step_lines(net, work, ascent, step, rate);
        size_t pick = count;
        double largest = -INFINITY;
        for (size_t r = 0; r < count; r++) {
            if (!own[r])
                continue;
            double value = -bounds[r];
            for (size_t o = 0; o < net->outputs; o++)
                value += rows[r * net->outputs + o] * ascent->values[net->output_layer[o]][net->output_unit[o]];
            if (value > largest)
                largest = value, pick = r;
        }
        for (size_t r = 0; r < count; r++)
            ascent->mix[r] *= 1 - rate;
        ascent->mix[pick] += rate;
    }
    return best;
}

#endif

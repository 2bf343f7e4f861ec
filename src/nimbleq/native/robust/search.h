/* Branch and bound over one box, as nimbleq/compress/robust/search.py does it; depth first. */
#ifndef NQ_ROBUST_SEARCH_H
#define NQ_ROBUST_SEARCH_H

#include <time.h>

#include "ascent.h"

#define POINTS 16 /* an integer box with so few is decided by trying each, which takes as long as its bounds */
#define LOOK 128 /* boxes after which, and then each time they have doubled, it is asked whether there is any hope */
#define HOPE 8.0 /* times as many boxes as allowed, as the share of the volume that is settled foretells: none */
#define GAP 4.0 /* of the lines, beside the slope of the bound: 0 takes 450 boxes where this takes 105 */

typedef enum { UNSAT, SAT, UNKNOWN, NO_MEMORY } Verdict;

typedef struct {
    const double *low, *high;   /* [inputs] */
    const double *rows;         /* [count][outputs] */
    const double *bounds;       /* [count] */
    const int64_t *row_case;    /* [count] */
    size_t count, cases;
    double seconds;
    int64_t most_boxes;
    bool careful; /* a witness must hold beyond any rounding; else in real arithmetic */
} Question;

typedef struct {
    Verdict verdict;
    double *witness; /* [inputs] */
    int64_t boxes;
} Answer;

/* Boxes still to be bounded: [low, high, bounds of all sums, which cases are possible, share of the volume] each. */
typedef struct {
    double *records;
    size_t length, room, width;
} Stack;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double *pushed(Stack *stack)
{
    if (stack->length == stack->room) {
        const size_t room = stack->room == 0 ? 64 : 2 * stack->room;
        double *more = realloc(stack->records, room * stack->width * sizeof(double));
        if (more == NULL)
            return NULL;
        stack->records = more, stack->room = room;
    }
    return stack->records + stack->length++ * stack->width;
}

/* Real (integer: exact) values of all layers at a point, and with `errors` how far any float32 engine may be off. */
static void forward(const Network *net, const double *point, double **values, double **errors)
{
    memcpy(values[0], point, net->inputs * sizeof(double));
    for (size_t k = 0; k < net->layers; k++) {
        const Layer *f = &net->layer[k];
        double *value = values[k + 1], *error = errors == NULL ? NULL : errors[k + 1];
        for (size_t i = 0; i < f->size; i++) {
            value[i] = sum_at(net, f, i, values);
            if (error == NULL)
                continue;
            v4 size = {fabs(f->bias[i]) + TINY, 0, 0, 0}, moved = {0, 0, 0, 0};
            for (size_t s = 0; s < f->sources; s++) {
                const size_t source = f->source[s], stride = value_stride(net, source);
                const double *row = f->matrix[s] + i * stride, *v = values[source];
                for (size_t j = 0; j < stride; j += 4) {
                    const v4 w = magnitude(*(const v4 *)&row[j]), e = *(const v4 *)&errors[source][j];
                    size += w * (magnitude(*(const v4 *)&v[j]) + e), moved += w * e;
                }
            }
            error[i] = sum_of(moved) + (f->integer ? 0.0 : f->slack * sum_of(size));
        }
        if (f->eps >= 0) {
            double square = 0.0, moved = 0.0;
            for (size_t i = 0; i < f->size; i++) {
                square += value[i] * value[i];
                moved += error == NULL ? 0.0 : error[i] * error[i];
            }
            const double norm = sqrt(square / (double)f->size + f->eps);
            moved = sqrt(moved / (double)f->size);
            const double least = larger(norm - moved, sqrt(f->eps));
            for (size_t i = 0; i < f->size; i++) {
                value[i] /= norm;
                if (error != NULL)
                    error[i] = (error[i] + fabs(value[i]) * moved) / least;
            }
            continue;
        }
        for (size_t i = 0; i < f->size; i++) {
            const double sum = value[i], made = apply(f, i, sum);
            if (error != NULL)
                error[i] = f->rounds ? larger(apply(f, i, sum + error[i]) - made, made - apply(f, i, sum - error[i]))
                                     : error[i] * f->scale[i];
            value[i] = made;
        }
    }
}

/* Whether the point is a witness for any case that is open. */
static bool judged(const Network *net, const Question *q, const double *point, double **values, double **errors,
                  const double *open_cases, double *largest)
{
    for (int careful = 0; careful <= (q->careful ? 1 : 0); careful++) {
        forward(net, point, values, careful ? errors : NULL);
        for (size_t c = 0; c < q->cases; c++)
            largest[c] = -INFINITY;
        for (size_t r = 0; r < q->count; r++) {
            double excess = -q->bounds[r];
            for (size_t o = 0; o < net->outputs; o++) {
                const double factor = q->rows[r * net->outputs + o];
                const size_t layer = net->output_layer[o], unit = net->output_unit[o];
                if (factor != 0)
                    excess += factor * values[layer][unit] + (careful ? fabs(factor) * errors[layer][unit] : 0.0);
            }
            double *worst = &largest[q->row_case[r]];
            *worst = larger(*worst, excess);
        }
        bool holds = false;
        for (size_t c = 0; c < q->cases; c++)
            holds = holds || (open_cases[c] != 0 && largest[c] <= 0);
        if (!holds)
            return false;
    }
    return true;
}

/* A lower bound, over a box, of the largest of some rows' linear bounds `slopes·x + at`: the best mixture of them that
   was found. `mixed` gets its slopes, `mix` the weights of the rows. Frank-Wolfe on the dual of min over x of max. */
static double mixture(size_t inputs, size_t count, const double *const *slopes, const double *at, const double *low,
                      const double *high, double *current, double *mixed, double *weight, double *mix)
{
    double best = -INFINITY, constant = 0.0;
    size_t pick = 0;
    for (size_t r = 0; r < count; r++) {
        const double bound = at[r] + least(inputs, slopes[r], low, high);
        if (bound > best)
            best = bound, pick = r;
    }
    memcpy(mixed, slopes[pick], inputs * sizeof(double));
    memcpy(current, slopes[pick], inputs * sizeof(double));
    constant = at[pick];
    memset(weight, 0, count * sizeof(double));
    weight[pick] = 1.0;
    memcpy(mix, weight, count * sizeof(double));
    for (int step = 1; count > 1 && step <= 24 && best <= 0; step++) {
        double top = -INFINITY;
        for (size_t r = 0; r < count; r++) {
            double value = at[r];
            for (size_t j = 0; j < inputs; j++)
                value += slopes[r][j] * (current[j] > 0 ? low[j] : high[j]);
            if (value > top)
                top = value, pick = r;
        }
        const double rate = 1.0 / (step + 1);
        double bound = constant = (1 - rate) * constant + rate * at[pick];
        for (size_t j = 0; j < inputs; j++) {
            current[j] = (1 - rate) * current[j] + rate * slopes[pick][j];
            bound += current[j] * (current[j] > 0 ? low[j] : high[j]);
        }
        for (size_t r = 0; r < count; r++)
            weight[r] *= 1 - rate;
        weight[pick] += rate;
        if (bound > best) {
            best = bound;
            memcpy(mixed, current, inputs * sizeof(double));
            memcpy(mix, weight, count * sizeof(double));
        }
    }
    return best;
}

/* What the network can be given: an integer, or a float32 number, within the box if there is any. */
static inline double snapped(const Network *net, double x, double low, double high)
{
    return smaller(larger(net->integer ? rint(x) : (double)(float)x, low), high);
}

/* Width of an input that is not halved any more. */
static inline double finest(const Network *net, double low, double high)
{
    return net->exact ? 0.0 : larger(0x1p-24 * larger(fabs(low), fabs(high)), 1e-30);
}

/* Arrays of one search besides Work; all doubles in one piece of memory. */
typedef struct {
    double *record, *point, *mixed, *current, *chosen, *slopes, *at, *largest;
    double **low, **high, **values, **errors;
    const double **row;
    double *row_at, *weight, *mix, *score;
    bool *own;
} Scratch;

/* The linear lower bounds of all rows of the question over the box that the lines were made for. */
static void bound_rows(const Network *net, const Question *q, Work *work, double *slopes, double *at)
{
    for (size_t done = 0; done < q->count; done += ROWS) {
        const size_t here = q->count - done < ROWS ? q->count - done : ROWS, rows = (here + 3) / 4 * 4;
        size_t top = 0;
        memset(work->total, 0, sizeof(double) * ROWS);
        for (size_t o = 0; o < net->outputs; o++) {
            const size_t layer = net->output_layer[o], stride = value_stride(net, layer);
            if (!work->present[layer])
                memset(work->factor[layer], 0, rows * stride * sizeof(double));
            work->present[layer] = true;
            top = layer > top ? layer : top;
            for (size_t r = 0; r < here; r++)
                work->factor[layer][r * stride + net->output_unit[o]] += q->rows[(done + r) * net->outputs + o];
        }
        backward(net, work, top, rows);
        memcpy(slopes + done * net->stride, work->factor[0], here * net->stride * sizeof(double));
        for (size_t r = 0; r < here; r++)
            at[done + r] = work->total[r] - q->bounds[done + r];
    }
}

/* Close the cases that are impossible in the box; returns whether any is left, with the slopes of the closest in
   `chosen`. */
static bool cases_left(const Network *net, const Question *q, Work *work, Ascent *ascent, Scratch *s, const double *low,
                       const double *high, double *open_cases)
{
    double closest = -INFINITY;
    bool left = false;
    for (size_t c = 0; c < q->cases; c++) {
        if (open_cases[c] == 0)
            continue;
        size_t count = 0;
        for (size_t r = 0; r < q->count; r++) {
            s->own[r] = q->row_case[r] == (int64_t)c;
            if (s->own[r])
                s->row[count] = s->slopes + r * net->stride, s->row_at[count++] = s->at[r];
        }
        double bound =
            mixture(net->inputs, count, s->row, s->row_at, low, high, s->current, s->mixed, s->weight, s->mix);
        if (bound <= 0) {
            for (size_t r = q->count, at = count; r > 0; r--)
                ascent->mix[r - 1] = s->own[r - 1] ? s->mix[--at] : 0.0;
            bound = ascend(net, work, ascent, q->rows, q->bounds, s->own, q->count, low, high, bound, s->mixed);
        }
        if (bound > 0) {
            open_cases[c] = 0;
            continue;
        }
        left = true;
        if (bound > closest) {
            closest = bound;
            memcpy(s->chosen, s->mixed, net->inputs * sizeof(double));
        }
    }
    return left;
}

/* How much halving each input promises, in s->score: it narrows the sums of layers that read it, and the lines of these
   lie apart by a gap that counts with the factor of the last backward pass. The slope of the bound counts, too. */
static void score_inputs(const Network *net, const Work *work, const Scratch *s)
{
    const double *low = s->record, *high = s->record + net->stride;
    for (size_t j = 0; j < net->inputs; j++)
        s->score[j] = fabs(s->chosen[j]);
    for (size_t k = 0; k < net->layers; k++) {
        const Layer *f = &net->layer[k];
        const double *a = high + net->stride + f->start, *b = a + net->sums;
        const Lines *at = &work->lines[k];
        if (f->source[0] != 0)
            continue;
        for (size_t i = 0; i < f->size; i++) {
            const double middle = 0.5 * (a[i] + b[i]);
            const double gap = (at->above[i] - at->below[i]) * middle + at->above_at[i] - at->below_at[i];
            const double weight = b[i] > a[i] ? GAP * fabs(work->factor[k + 1][i]) * gap / (b[i] - a[i]) : 0.0;
            for (size_t j = 0; weight > 0 && j < net->inputs; j++)
                s->score[j] += weight * fabs(f->matrix[0][i * net->stride + j]);
        }
    }
    for (size_t j = 0; j < net->inputs; j++)
        s->score[j] *= high[j] - low[j];
}

/* Push both halves of the box in s->record; the one with the corner that the slopes point to is taken first. Returns 1,
   0 when the box is too small to halve, -1 without memory. */
static int halved(const Network *net, const Work *work, const Scratch *s, Stack *stack)
{
    const double *low = s->record, *high = s->record + net->stride;
    score_inputs(net, work, s);
    size_t at = net->inputs;
    double best = -1.0;
    for (int by_width = 0; by_width < 2 && at == net->inputs; by_width++)
        for (size_t j = 0; j < net->inputs; j++) {
            const double width = high[j] - low[j], score = by_width ? width : s->score[j];
            if (width > finest(net, low[j], high[j]) && score > best && (by_width || score > 0))
                best = score, at = j;
        }
    if (at == net->inputs)
        return 0;
    double left = 0.5 * (low[at] + high[at]), right = left;
    if (net->integer)
        left = floor(left), right = left + 1;
    else if ((double)(float)left > low[at] && (double)(float)left < high[at])
        left = right = (double)(float)left;
    const double points = net->integer ? 1.0 : 0.0, share = (left - low[at] + points) / (high[at] - low[at] + points);
    for (int turn = 0; turn < 2; turn++) {
        const bool lower_half = (turn == 0) == (s->chosen[at] <= 0); /* pushed last: the half with the corner */
        double *child = pushed(stack);
        if (child == NULL)
            return -1;
        memcpy(child, s->record, stack->width * sizeof(double));
        child[stack->width - 1] *= lower_half ? share : 1.0 - share;
        if (lower_half)
            child[net->stride + at] = left;
        else
            child[at] = right;
    }
    return 1;
}

/* Try the centre of the box and the corner that the slopes point to. */
static bool witnessed(const Network *net, const Question *q, Scratch *s, const double *open_cases, Answer *answer)
{
    const double *low = s->record, *high = s->record + net->stride;
    for (int centre = 0; centre < 2; centre++) {
        for (size_t j = 0; j < net->inputs; j++) {
            const double x = centre ? 0.5 * (low[j] + high[j]) : s->chosen[j] > 0 ? low[j] : high[j];
            s->point[j] = snapped(net, x, low[j], high[j]);
        }
        if (judged(net, q, s->point, s->values, s->errors, open_cases, s->largest)) {
            memcpy(answer->witness, s->point, net->inputs * sizeof(double));
            return true;
        }
    }
    return false;
}

/* Whether sums of whole outputs by the rows have no rounding: then a point is a witness, or is none. */
static bool whole(const Network *net, const Question *q)
{
    bool all = net->integer && net->exact;
    for (size_t i = 0; i < q->count * net->outputs; i++)
        all = all && q->rows[i] == rint(q->rows[i]) && fabs(q->rows[i]) < 0x1p15;
    for (size_t r = 0; r < q->count; r++)
        all = all && q->bounds[r] == rint(q->bounds[r]) && fabs(q->bounds[r]) < 0x1p50;
    return all;
}

/* How many integer points are in the box in s->record; more than POINTS where they are not counted. */
static size_t points_in(const Network *net, const Scratch *s)
{
    const double *low = s->record, *high = s->record + net->stride;
    double count = 1.0;
    for (size_t j = 0; j < net->inputs && count <= POINTS; j++)
        count *= high[j] - low[j] + 1;
    return count <= POINTS ? (size_t)count : POINTS + 1;
}

/* Try every integer point of the box: integer networks answer each exactly. */
static bool tried(const Network *net, const Question *q, Scratch *s, const double *open_cases, Answer *answer)
{
    const double *low = s->record, *high = s->record + net->stride;
    memcpy(s->point, low, net->inputs * sizeof(double));
    for (;;) {
        if (judged(net, q, s->point, s->values, s->errors, open_cases, s->largest)) {
            memcpy(answer->witness, s->point, net->inputs * sizeof(double));
            return true;
        }
        size_t j = 0;
        for (; j < net->inputs && s->point[j] >= high[j]; j++)
            s->point[j] = low[j];
        if (j == net->inputs)
            return false;
        s->point[j] += 1;
    }
}

static void search(const Network *net, const Question *q, Work *work, Ascent *ascent, Scratch *s, Stack *stack,
                   Answer *answer)
{
    const double deadline = now() + q->seconds;
    const bool by_points = whole(net, q);
    bool small = false;
    double *sum_low = s->record + 2 * net->stride, *sum_high = sum_low + net->sums, *open_cases = sum_high + net->sums;
    double *first = pushed(stack);
    if (first == NULL) {
        answer->verdict = NO_MEMORY;
        return;
    }
    memset(first, 0, stack->width * sizeof(double));
    memcpy(first, q->low, net->inputs * sizeof(double));
    memcpy(first + net->stride, q->high, net->inputs * sizeof(double));
    for (size_t c = 0; c < q->cases; c++)
        first[2 * net->stride + 2 * net->sums + c] = 1;
    first[stack->width - 1] = 1.0;
    double settled = 0.0; /* share of the volume */
    int64_t look = LOOK;
    while (stack->length > 0) {
        memcpy(s->record, stack->records + --stack->length * stack->width, stack->width * sizeof(double));
        const double *low = s->record, *high = s->record + net->stride;
        relax_box(net, work, low, high, sum_low, sum_high, answer->boxes == 0, s->low, s->high);
        answer->boxes++;
        bound_rows(net, q, work, s->slopes, s->at);
        const double share = s->record[stack->width - 1];
        if (!cases_left(net, q, work, ascent, s, low, high, open_cases)) {
            settled += share;
            continue;
        }
        const bool few = by_points && points_in(net, s) <= POINTS;
        if (few ? tried(net, q, s, open_cases, answer) : witnessed(net, q, s, open_cases, answer)) {
            answer->verdict = SAT;
            return;
        }
        if (few) { /* no point of it is a witness */
            settled += share;
            continue;
        }
        const bool hopeless =
            answer->boxes >= look && (double)answer->boxes > HOPE * settled * (double)q->most_boxes;
        if (hopeless || answer->boxes >= q->most_boxes || now() > deadline) {
            answer->verdict = UNKNOWN;
            return;
        }
        look = answer->boxes >= look ? 2 * look : look;
        const int pushed_both = halved(net, work, s, stack);
        if (pushed_both < 0) {
            answer->verdict = NO_MEMORY;
            return;
        }
        small = small || pushed_both == 0;
    }
    answer->verdict = small ? UNKNOWN : UNSAT;
}

#endif

/* Memory of searches. */
#ifndef NQ_ROBUST_WORK_H
#define NQ_ROBUST_WORK_H

#include "search.h"

/* Everything that depends on the network only. */
typedef struct {
    Work work;
    Ascent ascent;
    Lines *lines;
    double **low, **high, **values, **errors;
    double **owned; /* every array of doubles, for freeing */
    size_t owned_count;
} Memory;

static double *kept(Memory *m, size_t count)
{
    double *made = new_doubles(count);
    if (made != NULL)
        m->owned[m->owned_count++] = made;
    return made;
}

static void free_memory(Memory *m)
{
    if (m == NULL)
        return;
    for (size_t i = 0; i < m->owned_count; i++)
        free(m->owned[i]);
    free(m->owned), free(m->lines), free(m->ascent.lines), free(m->ascent.average), free(m->ascent.values),
    free(m->low), free(m->high), free(m->values), free(m->errors);
    free(m->work.slack), free(m->work.factor), free(m->work.present), free(m->work.active), free(m->work.unit);
    free(m);
}

/* NULL without memory. */
static Memory *new_memory(const Network *net)
{
    const size_t values = net->layers + 1;
    Memory *m = calloc(1, sizeof *m);
    if (m == NULL)
        return NULL;
    m->owned = calloc(16 * values + 8, sizeof *m->owned);
    m->lines = calloc(values, sizeof *m->lines), m->ascent.lines = calloc(values, sizeof *m->lines);
    double ***lists[] = {&m->low, &m->high, &m->values, &m->errors, &m->work.slack, &m->work.factor,
                         &m->ascent.average, &m->ascent.values};
    bool ok = m->owned != NULL && m->lines != NULL && m->ascent.lines != NULL;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        ok = (*lists[i] = calloc(values, sizeof(double *))) != NULL && ok;
    ok = (m->work.present = calloc(values, sizeof(bool))) != NULL && ok;
    ok = (m->work.active = calloc(net->widest, sizeof(size_t))) != NULL && ok;
    ok = (m->work.unit = calloc(net->widest, sizeof(size_t))) != NULL && ok;
    if (ok) {
        m->work.lines = m->lines;
        ok = (m->work.sums = kept(m, ROWS * net->widest)) != NULL && (m->work.total = kept(m, ROWS)) != NULL;
    }
    for (size_t k = 0; ok && k < values; k++) {
        const size_t stride = value_stride(net, k);
        ok = (m->low[k] = kept(m, stride)) && (m->high[k] = kept(m, stride)) && (m->values[k] = kept(m, stride)) &&
             (m->errors[k] = kept(m, stride)) && (m->work.factor[k] = kept(m, ROWS * stride)) &&
             (m->ascent.values[k] = kept(m, stride));
        if (k == 0)
            continue;
        Lines *at = &m->lines[k - 1];
        Lines *own = &m->ascent.lines[k - 1];
        double **parts[] = {&own->below,    &own->below_at, &m->ascent.average[k - 1], &at->below, &at->below_at,
                            &at->above, &at->above_at,  &at->low, &at->high, &m->work.slack[k - 1]};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            ok = (*parts[i] = kept(m, stride)) != NULL && ok;
    }
    if (!ok) {
        free_memory(m);
        return NULL;
    }
    return m;
}

/* Answer a question; the verdict is NO_MEMORY when there is too little. */
static void answer_question(const Network *net, const Question *q, Memory *m, Answer *answer)
{
    Stack stack = {.width = 2 * net->stride + 2 * net->sums + q->cases + 1};
    const size_t n = net->stride, floats = stack.width + 5 * n + q->count * (n + 5) + q->cases;
    double *doubles = calloc(floats, sizeof *doubles);
    const double **rows = calloc(q->count + 1, sizeof *rows);
    bool *own = calloc(q->count + 1, sizeof *own);
    answer->verdict = NO_MEMORY;
    if (doubles != NULL && rows != NULL && own != NULL) {
        Scratch s = {
            .record = doubles, .low = m->low, .high = m->high, .values = m->values, .errors = m->errors, .row = rows,
            .own = own,
        };
        s.point = s.record + stack.width, s.mixed = s.point + n, s.current = s.mixed + n, s.chosen = s.current + n;
        s.score = s.chosen + n, s.slopes = s.score + n, s.at = s.slopes + q->count * n, s.row_at = s.at + q->count;
        s.weight = s.row_at + q->count, s.mix = s.weight + q->count, m->ascent.mix = s.mix + q->count;
        s.largest = m->ascent.mix + q->count;
        search(net, q, &m->work, &m->ascent, &s, &stack, answer);
    }
    free(own), free(doubles), free(rows), free(stack.records);
}

/* Lower bounds of rows [count][outputs] over each of some boxes [boxes][inputs]; out is [boxes][count]. */
static bool bound_boxes(const Network *net, const Question *q, size_t boxes, Memory *m, double *out)
{
    double *sums = calloc(2 * net->sums + q->count * (net->stride + 1), sizeof *sums);
    if (sums == NULL)
        return false;
    double *at = sums + 2 * net->sums, *slopes = at + q->count;
    for (size_t box = 0; box < boxes; box++) {
        const double *low = q->low + box * net->inputs, *high = q->high + box * net->inputs;
        relax_box(net, &m->work, low, high, sums, sums + net->sums, true, m->low, m->high);
        bound_rows(net, q, &m->work, slopes, at);
        for (size_t r = 0; r < q->count; r++)
            out[box * q->count + r] = at[r] + least(net->inputs, slopes + r * net->stride, low, high);
    }
    free(sums);
    return true;
}

#endif

/* No program may read or write outside of its memory: every step is checked once, when it is loaded. */
#include "program.h"

#include <limits.h>

static const int64_t SIZE[] = {4, 4, 2, 1, 1};

typedef struct {
    const Step *step;
    const Head *head;
    const int64_t *behind;
    const char *why;
} Check;

static int fail(Check *c, const char *why)
{
    if (c->why == NULL) c->why = why;
    return 0;
}

static int type(Check *c, int32_t number) { return (number >= NQ_F32 && number <= NQ_U8) || fail(c, "a type is unknown"); }

/* A size that an int can hold, and products of two of them an int64. */
static int size(Check *c, int64_t number) { return (number >= 1 && number <= INT_MAX) || fail(c, "a size is not positive"); }

/* `count` elements of a place. */
static void place(Check *c, int32_t at, int64_t count, int32_t kind, int writes)
{
    if (!type(c, kind) || !size(c, count)) return;
    const Head *head = c->head;
    if (at == NQ_OBS) {
        if (writes || kind != head->obs_type || count > head->obs_count) fail(c, "it leaves the observation");
    } else if (at < 0 || at % 4 != 0 || at + count * SIZE[kind] > head->arena_bytes) {
        fail(c, "it leaves the arena");
    }
}

static void reads(Check *c, int32_t at, int64_t count, int32_t kind) { place(c, at, count, kind, 0); }
static void writes(Check *c, int32_t at, int64_t count, int32_t kind) { place(c, at, count, kind, 1); }

static const void *constant(Check *c, int index, int64_t count, int64_t bytes)
{
    if (c->step->constant[index] == NULL || count < 1 || count > INT_MAX || count * bytes > c->behind[index])
        return fail(c, "it leaves the constants"), (const void *)NULL;
    return c->step->constant[index];
}

static void optional(Check *c, int index, int64_t count, int64_t bytes)
{
    if (c->step->constant[index] != NULL) constant(c, index, count, bytes);
}

static void shifts(Check *c, int index, int64_t count)
{
    const int32_t *shift = constant(c, index, count, 4);
    for (int64_t i = 0; shift != NULL && i < count; ++i)
        if (shift[i] < 1 || shift[i] > 62) fail(c, "a shift is not in 1..62");
}

static int64_t up(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

/* Elements of a window, as many as its step reads. */
static int64_t window(const Sums *s, int64_t run) { return (s->runs - 1) * (int64_t)s->run_step + run; }

static int windows(Check *c, const Sums *s)
{
    if (!size(c, s->rows) || !size(c, s->cols) || !size(c, s->runs) || !size(c, s->run) || !size(c, s->out)) return 0;
    if (s->step_y < 0 || s->step_x < 0 || s->run_step < 0) return fail(c, "a step goes backwards");
    return size(c, (int64_t)s->rows * s->cols) && size(c, (int64_t)s->runs * s->run) &&
           size(c, (int64_t)s->rows * s->cols * s->out) && size(c, (int64_t)s->runs * up(s->run, 4));
}

static int64_t last_window(const Sums *s)
{
    return (s->rows - 1) * (int64_t)s->step_y + (s->cols - 1) * (int64_t)s->step_x;
}

static void stored(Check *c, const Sums *s, int32_t kind, int64_t width)
{
    if (!type(c, kind)) return;
    writes(c, c->step->y, (int64_t)s->rows * s->cols * s->out, kind);
    if (s->requantizes) {
        constant(c, 2, width, 4);
        shifts(c, 3, width);
        if (SIZE[kind] != 1) fail(c, "sums are requantized to bytes");
    }
}

/* Dense sums: constants are weights, biases, multipliers, shifts. `unit` inputs of a run belong together. */
static void sums(Check *c, int32_t kind, int64_t unit, int64_t weight_bytes)
{
    const Sums *s = &c->step->sums;
    if (!windows(c, s)) return;
    const int64_t run = up(s->run, unit), width = up(s->out, 16);
    if (s->block < 16 || s->block > 64 || s->block % 16 != 0) fail(c, "a block is not 16, 32, 48 or 64 outputs");
    if (!size(c, s->runs * run) || !size(c, s->runs * run * width)) return;
    reads(c, c->step->x, last_window(s) + window(s, run), kind);
    constant(c, 0, s->runs * run * width, weight_bytes);
    constant(c, 1, width, 4);
    if (kind == NQ_F32) writes(c, c->step->y, (int64_t)s->rows * s->cols * s->out, NQ_F32);
    else stored(c, s, s->requantizes ? s->type_y : NQ_I32, width);
    if (s->skips) {
        if (kind != NQ_F32 || s->rows != 1 || s->cols != 1 || s->runs != 1) fail(c, "only a Linear skips inputs");
        writes(c, s->scratch, 2 * ((int64_t)s->run + 16), NQ_I32);
        /* Rows are found there, and read while results are written. */
        if (s->scratch < c->step->y + 4 * (int64_t)s->out && c->step->y < s->scratch + 8 * ((int64_t)s->run + 16))
            fail(c, "its scratch is its result");
    }
}

/* Dots: constants are weights, in lines of a multiple of 16, and biases. */
static void dots(Check *c)
{
    const Sums *s = &c->step->sums;
    if (!windows(c, s)) return;
    if (s->rows != 1 || s->cols != 1 || s->runs != 1) fail(c, "only a Linear is made of dots");
    reads(c, c->step->x, s->run, NQ_F32);
    writes(c, c->step->y, s->out, NQ_F32);
    constant(c, 0, s->out * up(s->run, 16), 4);
    constant(c, 1, s->out, 4);
}

/* Sparse sums: constants are weights, biases, multipliers, shifts, entries of each output, places of the entries. */
static void sparse(Check *c, int real)
{
    const Sums *s = &c->step->sums;
    if (!windows(c, s) || s->entries < 0) {
        fail(c, "a size is negative");
        return;
    }
    const int64_t entries = s->entries;
    int64_t counted = 0, furthest = 0;
    const int32_t *count = constant(c, 4, s->out, 4), *at = entries == 0 ? NULL : constant(c, 5, entries, 4);
    if (entries > 0) constant(c, 0, entries, 4);
    if (c->why != NULL) return;
    for (int o = 0; o < s->out; ++o) {
        if (count[o] < 0 || count[o] > entries) fail(c, "entries are miscounted");
        counted += count[o];
    }
    if (counted != entries) fail(c, "entries are miscounted");
    for (int64_t i = 0; i < entries; ++i) {
        if (at[i] < 0) fail(c, "an entry lies outside");
        else if (at[i] > furthest) furthest = at[i];
    }
    reads(c, c->step->x, last_window(s) + furthest + 1, s->type_x);
    if (real != (s->type_x == NQ_F32)) fail(c, "it reads another type");
    constant(c, 1, s->out, 4);
    stored(c, s, real ? NQ_F32 : s->requantizes ? s->type_y : NQ_I32, s->out);
}

/* Scattered sums: constants are weights, biases, multipliers, shifts, first sums and first weights of each input. */
static void scatter(Check *c, int real)
{
    const Scatter *s = &c->step->scatter;
    const int32_t sizes[] = {s->inputs, s->lines, s->run, s->pixels, s->width, s->rows, s->cols, s->out, s->weights};
    for (int i = 0; i < 9; ++i)
        if (!size(c, sizes[i])) return;
    if (s->step < 0 || s->first < 0 || s->width % 16 != 0 || s->run % 16 != 0 || s->out > s->width) {
        fail(c, "a grid is made of rows of 16 sums");
        return;
    }
    const int64_t grid = (int64_t)s->pixels * s->width, outputs = (int64_t)s->rows * s->cols;
    if (!size(c, grid) || !size(c, outputs) || !size(c, outputs * s->out)) return;
    if (s->first + (s->rows - 1) * (int64_t)s->step + (s->cols - 1) * (int64_t)s->width + s->width > grid) fail(c, "it leaves its grid");
    const int32_t *place = constant(c, 4, s->inputs, 4), *from = constant(c, 5, s->inputs, 4);
    constant(c, 0, s->weights, 4);
    constant(c, 1, s->width, 4);
    writes(c, s->scratch, grid, NQ_I32);
    reads(c, c->step->x, s->inputs, s->type_x);
    if (c->why != NULL) return;
    for (int k = 0; k < s->inputs; ++k) {
        if (place[k] < 0 || place[k] + (s->lines - 1) * (int64_t)s->step + s->run > grid) fail(c, "it leaves its grid");
        if (from[k] < 0 || from[k] + s->lines * (int64_t)s->run > s->weights) fail(c, "it leaves its weights");
    }
    if (!real && s->type_x == NQ_F32) fail(c, "integer sums need integers");
    const int32_t kind = real ? NQ_F32 : s->requantizes ? s->type_y : NQ_I32;
    if (!type(c, kind)) return;
    writes(c, c->step->y, outputs * s->out, kind);
    if (!real && s->requantizes) {
        constant(c, 2, s->width, 4);
        shifts(c, 3, s->width);
        if (SIZE[kind] != 1) fail(c, "sums are requantized to bytes");
    }
}

static void pool(Check *c)
{
    const Pool *p = &c->step->pool;
    const int32_t sizes[] = {p->channels, p->height, p->width, p->rows, p->cols, p->kernel_y, p->kernel_x, p->stride_y,
                             p->stride_x};
    for (int i = 0; i < 9; ++i)
        if (!size(c, sizes[i])) return;
    if (p->padding_y < 0 || p->padding_x < 0 || p->padding_y > 1 << 15 || p->padding_x > 1 << 15) fail(c, "a padding is out of range");
    if (!size(c, (int64_t)p->height * p->width) || !size(c, (int64_t)p->rows * p->cols)) return;
    if (!size(c, (int64_t)p->rows * p->stride_y + p->kernel_y) || !size(c, (int64_t)p->cols * p->stride_x + p->kernel_x)) return;
    if (!size(c, (int64_t)p->kernel_y * p->kernel_x)) return;
    if (p->function < NQ_MAX || p->function > NQ_SUM) fail(c, "a function is unknown");
    if (p->function == NQ_AVERAGE && p->type != NQ_F32) fail(c, "averages are of floats");
    if (p->function == NQ_SUM && p->type == NQ_F32) fail(c, "sums are of integers");
    reads(c, c->step->x, (int64_t)p->height * p->width * p->channels, p->type);
    writes(c, c->step->y, (int64_t)p->rows * p->cols * p->channels, p->function == NQ_SUM ? NQ_I32 : p->type);
}

static void tree(Check *c)
{
    const Tree *t = &c->step->tree;
    if (!size(c, t->features) || !size(c, t->actions) || t->depth < 1 || t->depth > 16) {
        fail(c, "a tree has 1 to 16 levels");
        return;
    }
    const int64_t splits = ((int64_t)1 << t->depth) - 1;
    reads(c, c->step->x, t->features, t->type_x);
    if (c->step->op == NQ_OBLIQUE_TREE) {
        constant(c, 0, splits * t->features, 4);
        constant(c, 1, splits, 4);
        if (!t->real && t->type_x == NQ_F32) fail(c, "integer splits need integers");
    } else {
        const int32_t *feature = constant(c, 0, splits, 4);
        for (int64_t i = 0; feature != NULL && i < splits; ++i)
            if (feature[i] < 0 || feature[i] >= t->features) fail(c, "a feature lies outside");
        constant(c, 1, splits, 8);
    }
    constant(c, 2, (splits + 1) * (t->leaf_is_action ? 1 : t->actions), 4);
    if (t->type_y != NQ_F32 && t->type_y != NQ_I8) fail(c, "leaves are float32 or int8");
    writes(c, c->step->y, t->actions, t->type_y);
}

static void each(Check *c)
{
    const Each *e = &c->step->each;
    if (!size(c, e->count)) return;
    if (c->step->op == NQ_ADD || c->step->op == NQ_DUELING) {
        reads(c, c->step->x, c->step->op == NQ_ADD ? e->count : 1, NQ_F32);
        reads(c, e->other, e->count, NQ_F32);
    } else if (c->step->op == NQ_EXPECTATION) {
        if (size(c, e->atoms)) reads(c, c->step->x, (int64_t)e->count * e->atoms, NQ_F32);
        constant(c, 0, e->atoms, 4);
    } else if (c->step->op == NQ_DEQUANTIZE || c->step->op == NQ_REQUANTIZE) {
        reads(c, c->step->x, e->count, e->type_x);
        if (e->type_x == NQ_F32) fail(c, "it reads integers");
    } else {
        reads(c, c->step->x, e->count, NQ_F32);
    }
    const int makes = c->step->op == NQ_QUANTIZE || c->step->op == NQ_REQUANTIZE;
    writes(c, c->step->y, e->count, makes ? e->type_y : NQ_F32);
    if (makes && e->type_y == NQ_F32) fail(c, "it makes integers");
    if (c->step->op == NQ_LAYER_NORM) {
        optional(c, 0, e->count, 4);
        optional(c, 1, e->count, 4);
    }
    if (c->step->op == NQ_AFFINE || c->step->op == NQ_QUANTIZE || c->step->op == NQ_DEQUANTIZE || c->step->op == NQ_REQUANTIZE) {
        if (!size(c, e->period) || e->count % e->period != 0) fail(c, "a period does not divide its count");
        constant(c, 0, e->period, 4);
        if (c->step->op == NQ_REQUANTIZE) shifts(c, 1, e->period);
        else constant(c, 1, e->period, 4);
    }
}

const char *nq_check_step(const Step *step, const Head *head, const int64_t *constant_bytes)
{
    Check checked = {step, head, constant_bytes, NULL}, *c = &checked;
    const Permute *p = &step->permute;
    const Copy *m = &step->copy;
    const Border *b = &step->border;
    switch (step->op) {
    case NQ_PERMUTE: {
        const int32_t kind = p->item == 4 ? (step->x == NQ_OBS ? head->obs_type : NQ_I32) : p->item == 2 ? NQ_I16
                           : step->x == NQ_OBS ? head->obs_type : NQ_U8;
        if (!size(c, p->repeat) || !size(c, p->rows) || !size(c, p->cols) || !size(c, (int64_t)p->rows * p->cols)) break;
        if (!size(c, (int64_t)p->rows * p->cols * p->repeat) || SIZE[kind] != p->item) return "an item has 1, 2 or 4 bytes";
        reads(c, step->x, (int64_t)p->repeat * p->rows * p->cols, kind);
        writes(c, step->y, (int64_t)p->repeat * p->rows * p->cols, kind);
        break;
    }
    case NQ_COPY: {
        const int32_t kind = step->x == NQ_OBS ? head->obs_type : m->item == 4 ? NQ_I32 : m->item == 2 ? NQ_I16 : NQ_U8;
        if (SIZE[kind] != m->item) return "an item has 1, 2 or 4 bytes";
        if (!size(c, m->outer) || !size(c, m->part) || m->x_start < 0 || m->y_start < 0 || m->x_step < 0 || m->y_step < 0)
            return "a size is negative";
        reads(c, step->x, m->x_start + (m->outer - 1) * (int64_t)m->x_step + m->part, kind);
        writes(c, step->y, m->y_start + (m->outer - 1) * (int64_t)m->y_step + m->part, kind);
        break;
    }
    case NQ_CONVERT:
        reads(c, step->x, step->convert.count, step->convert.type_x);
        writes(c, step->y, step->convert.count, step->convert.type_y);
        break;
    case NQ_BORDER: {
        if (!type(c, b->type) || !size(c, b->height) || !size(c, b->line) || b->above < 0 || b->beside < 0) return "a border is negative";
        const int64_t line = b->line + 2 * (int64_t)b->beside, lines = b->height + 2 * (int64_t)b->above;
        if (!size(c, line) || !size(c, lines)) break;
        reads(c, step->x, (int64_t)b->height * b->line, b->type);
        writes(c, step->y, lines * line, b->type);
        break;
    }
    case NQ_POOL: pool(c); break;
    case NQ_SUMS_F32: sums(c, NQ_F32, 1, 4); break;
    case NQ_DOTS_F32: dots(c); break;
    case NQ_SUMS_U8: sums(c, NQ_U8, 4, 1); break;
    case NQ_SUMS_I16: sums(c, NQ_I16, 2, 2); break;
    case NQ_SPARSE_F32: sparse(c, 1); break;
    case NQ_SPARSE_INT: sparse(c, 0); break;
    case NQ_SCATTER_F32: scatter(c, 1); break;
    case NQ_SCATTER_INT: scatter(c, 0); break;
    case NQ_OBLIQUE_TREE: case NQ_AXIS_TREE: tree(c); break;
    case NQ_ARGMAX:
        reads(c, step->x, step->argmax.count, step->argmax.type_x);
        if (step->argmax.count != head->actions || step->argmax.masked != head->masked) fail(c, "an ArgMax has other actions");
        break;
    default: each(c);
    }
    return c->why;
}

/* Sums over non-negative numbers, eight children to a node: one cache line per level.
 *
 * Every sum is computed from its children, in one order, never updated by differences: it depends on the leaves alone,
 * not on their history, and it is the same, bit for bit, as in the numpy tree of nimbleq/rl/replay/priority.py. */
#ifndef NQ_REPLAY_TREE_H
#define NQ_REPLAY_TREE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FAN = 8, MAX_LEVELS = 22 };

typedef struct {
    size_t capacity;
    int levels;                /* level[0] holds the leaves, level[levels - 1] at most FAN numbers */
    double *level[MAX_LEVELS]; /* each padded with zeros to a multiple of FAN */
    double *memory;
} Tree;

static inline double sum8(const double *restrict x)
{
    const double a = x[0] + x[4], b = x[1] + x[5], c = x[2] + x[6], d = x[3] + x[7];
    return (a + c) + (b + d);
}

static inline size_t padded(size_t count) { return (count + FAN - 1) / FAN * FAN; }

static bool tree_create(Tree *tree, size_t capacity)
{
    size_t total = 0, count = padded(capacity);
    tree->capacity = capacity;
    tree->levels = 0;
    for (size_t n = count;; n = padded(n / FAN)) {
        total += n;
        tree->levels++;
        if (n == FAN)
            break;
    }
    if (posix_memalign((void **)&tree->memory, 64, total * sizeof(double)) != 0) {
        tree->memory = NULL;
        return false;
    }
    memset(tree->memory, 0, total * sizeof(double));
    double *next = tree->memory;
    for (int l = 0; l < tree->levels; l++, count = padded(count / FAN)) {
        tree->level[l] = next;
        next += count;
    }
    return true;
}

static inline double tree_total(const Tree *tree) { return sum8(tree->level[tree->levels - 1]); }

/* Writes value[i] (value[0] when `one`) at index[i], in order, and renews the sums above. `scratch` holds count indices. */
static void tree_set(Tree *tree, const int64_t *restrict index, const double *restrict value, bool one, size_t count,
                     int64_t *restrict scratch)
{
    for (size_t i = 0; i < count; i++) {
        tree->level[0][index[i]] = value[one ? 0 : i];
        scratch[i] = index[i];
    }
    for (int l = 1; l < tree->levels; l++) {
        const double *below = tree->level[l - 1];
        double *here = tree->level[l];
        size_t kept = 0;
        int64_t before = -1;
        for (size_t i = 0; i < count; i++) { /* neighbours, as a stratified sample has them, share their parents */
            const int64_t parent = scratch[i] / FAN;
            if (parent != before) {
                here[parent] = sum8(below + parent * FAN);
                scratch[kept++] = before = parent;
            }
        }
        count = kept;
    }
}

/* All leaves at once. */
static void tree_load(Tree *tree, const double *values)
{
    memcpy(tree->level[0], values, tree->capacity * sizeof(double));
    size_t count = padded(tree->capacity) / FAN;
    for (int l = 1; l < tree->levels; l++, count = padded(count) / FAN)
        for (size_t i = 0; i < count; i++)
            tree->level[l][i] = sum8(tree->level[l - 1] + i * FAN);
}

typedef double Four __attribute__((vector_size(32), aligned(32)));
typedef int64_t FourTruths __attribute__((vector_size(32)));

/* x0, x0 + x1, (x1 + x2) + x0, ((x1 + x2) + x0) + x3: never falling, whatever the rounding, and level over a zero. */
static inline Four running(Four x)
{
    const Four zero = {0};
    const Four pairs = x + __builtin_shufflevector(zero, x, 0, 4, 5, 0);
    const Four threes = pairs + __builtin_shufflevector(zero, x, 0, 0, 4, 0);
    return threes + __builtin_shufflevector(zero, threes, 0, 0, 0, 6);
}

/* The child of a node that holds *mass, which becomes the mass within that child. */
static inline int64_t descend(const double *restrict child, double *mass)
{
    Four until[3]; /* sums up to and including each child, behind a zero */
    const Four all = {*mass, *mass, *mass, *mass};
    until[1] = running(*(const Four *)child);
    const Four half = {until[1][3], until[1][3], until[1][3], until[1][3]};
    until[2] = running(*(const Four *)(child + 4)) + half;
    until[0] = (Four){0};
    const FourTruths passed = (until[1] <= all) + (until[2] <= all); /* true is -1 */
    int64_t chosen = -(passed[0] + passed[1] + passed[2] + passed[3]);
    if (__builtin_expect(chosen == FAN, 0)) { /* rounding must not lead past the end */
        chosen = FAN - 1;
        while (chosen > 0 && child[chosen] <= 0.0)
            chosen--;
    }
    *mass -= ((const double *)until)[chosen + 3];
    return chosen;
}

/* For each mass (destroyed) in [0, total): the leaf whose slice of the cumulative sum holds it. Level by level over the
 * whole batch, so that the processor waits for many cache lines at once. */
static void tree_find(const Tree *tree, double *restrict mass, int64_t *restrict node, size_t count)
{
    memset(node, 0, count * sizeof *node);
    for (int l = tree->levels - 1; l >= 0; l--) {
        const double *restrict level = tree->level[l], *below = tree->level[l > 0 ? l - 1 : 0];
        for (size_t i = 0; i < count; i++) {
            node[i] = node[i] * FAN + descend(level + node[i] * FAN, mass + i);
            if (l > 0)
                __builtin_prefetch(below + node[i] * FAN);
        }
    }
}

#endif

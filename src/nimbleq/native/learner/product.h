/* The matrix product behind every layer, forward and backward, which skips the zeros of its left operand.
 *
 * After a ReLU about half of the activations are zero, and so are the gradients that come back through it. A bit per
 * element tells which are not; the product walks over the set bits, so there is no branch per element and without zeros
 * it does what a dense one does.
 *
 * Storage: matrix[column / BLOCK][row][column % BLOCK], each block of columns contiguous. BLOCK rows of a block are
 * 16 KiB: they stay in the L1 cache while all rows of the left operand pass over them.
 */
#ifndef NIMBLEQ_LEARNER_PRODUCT_H
#define NIMBLEQ_LEARNER_PRODUCT_H

#include <stdbool.h>

#include "matrix.h"

/* C = A B + bias. */
typedef struct {
    size_t rows, inner, columns; /* of C: rows x columns; the sums run over `inner` */
    const float *a, *b;
    float *c;
    size_t a_stride, b_stride, c_stride; /* floats from one block of columns to the next */
    const float *bias;                   /* [columns] or NULL */
    const uint64_t *bits;                /* [inner / BLOCK][bits_stride] where a row of A is not zero */
    size_t bits_stride;
} Product;

/* sums[i] += sum over the set bits j of a[j] * b[j][vector i]. */
INLINE void add_rows(const int vectors, uint64_t bits, const float *restrict a, const float *restrict b, vf sums[TILE])
{
    if (2 * vectors <= 12) { /* two sets of sums, or the multiply-adds wait for each other */
        vf other[TILE];
        UNROLL for (int i = 0; i < vectors; i++) other[i] = splat(0);
        while (bits & (bits - 1)) {
            const size_t j = (size_t)__builtin_ctzll(bits);
            bits &= bits - 1;
            const size_t k = (size_t)__builtin_ctzll(bits);
            bits &= bits - 1;
            const vf x = splat(a[j]), y = splat(a[k]);
            UNROLL for (int i = 0; i < vectors; i++)
            {
                sums[i] += x * load(b + j * BLOCK + i * LANES);
                other[i] += y * load(b + k * BLOCK + i * LANES);
            }
        }
        UNROLL for (int i = 0; i < vectors; i++) sums[i] += other[i];
    }
    for (; bits; bits &= bits - 1) {
        const size_t j = (size_t)__builtin_ctzll(bits);
        const vf x = splat(a[j]);
        UNROLL for (int i = 0; i < vectors; i++) sums[i] += x * load(b + j * BLOCK + i * LANES);
    }
}

/* sums[r][i] += sum over j < count of a[row r][j] * b[j][vector i], for DENSE_ROWS rows and up to DENSE_VECTORS vectors:
 * a vector of b is read once for all rows. */
#define DENSE_ROWS 6
#define DENSE_VECTORS 2
INLINE void add_dense(const int vectors, size_t count, const float *restrict a, const float *restrict b,
                      vf sums[DENSE_ROWS][DENSE_VECTORS])
{
    for (size_t j = 0; j < count; j++) {
        vf y[DENSE_VECTORS];
        UNROLL for (int i = 0; i < vectors; i++) y[i] = load(b + j * BLOCK + i * LANES);
        UNROLL for (size_t r = 0; r < DENSE_ROWS; r++)
        {
            const vf x = splat(a[r * BLOCK + j]);
            UNROLL for (int i = 0; i < vectors; i++) sums[r][i] += x * y[i];
        }
    }
}

/* One row of C; its sums begin at `start`. */
INLINE void sparse_row(const int vectors, uint64_t bits, const float *a, const float *b, const float *start, float *c)
{
    vf sums[TILE];
    UNROLL for (int i = 0; i < vectors; i++) sums[i] = load(start + i * LANES);
    add_rows(vectors, bits, a, b, sums);
    UNROLL for (int i = 0; i < vectors; i++) store(c + i * LANES, sums[i]);
}

/* DENSE_ROWS rows of C; their sums begin at `start`, `start_step` floats apart. */
INLINE void dense_rows(const int vectors, size_t count, const float *a, const float *b, const float *start,
                       size_t start_step, float *c)
{
    UNROLL for (int first = 0; first < vectors; first += DENSE_VECTORS)
    {
        const int width = vectors - first < DENSE_VECTORS ? vectors - first : DENSE_VECTORS;
        const int at = first * LANES;
        vf sums[DENSE_ROWS][DENSE_VECTORS];
        UNROLL for (int r = 0; r < DENSE_ROWS; r++)
            UNROLL for (int i = 0; i < width; i++) sums[r][i] = load(start + (size_t)r * start_step + at + i * LANES);
        add_dense(width, count, a, b + at, sums);
        UNROLL for (int r = 0; r < DENSE_ROWS; r++)
            UNROLL for (int i = 0; i < width; i++) store(c + r * BLOCK + at + i * LANES, sums[r][i]);
    }
}

/* Whether a dense product of DENSE_ROWS rows costs less than walking over their set bits: measured from 3/4 on. */
INLINE bool is_dense(const uint64_t *bits, size_t count)
{
    size_t set = 0;
    UNROLL for (int r = 0; r < DENSE_ROWS; r++) set += (size_t)__builtin_popcountll(bits[r]);
    return 4 * set >= 3 * DENSE_ROWS * count;
}

/* All rows of `vectors` vectors of C from column `first` on, BLOCK steps of the sums at a time. */
INLINE void product_tile(const int vectors, const Product *p, size_t first)
{
    static const _Alignas(ALIGNMENT) float zeros[TILE * LANES];
    const float *b = p->b + first / BLOCK * p->b_stride + first % BLOCK;
    const float *initial = p->bias != NULL ? p->bias + first : zeros;
    float *c = p->c + first / BLOCK * p->c_stride + first % BLOCK;
    for (size_t s = 0; s < blocks_of(p->inner); s++, b += BLOCK * BLOCK) {
        const size_t count = width_in(p->inner, s), start_step = s > 0 ? BLOCK : 0;
        const uint64_t *bits = p->bits + s * p->bits_stride;
        const float *a = p->a + s * p->a_stride;
        for (size_t r = 0; r < p->rows; r += DENSE_ROWS) {
            const size_t rows = p->rows - r < DENSE_ROWS ? p->rows - r : DENSE_ROWS;
            const float *start = s > 0 ? c + r * BLOCK : initial;
            /* Only where both ways add in the same order: where a row has one set of sums. */
            if (2 * vectors > 12 && rows == DENSE_ROWS && is_dense(bits + r, count))
                dense_rows(vectors, count, a + r * BLOCK, b, start, start_step, c + r * BLOCK);
            else
                for (size_t i = 0; i < rows; i++)
                    sparse_row(vectors, bits[r + i], a + (r + i) * BLOCK, b, start + i * start_step, c + (r + i) * BLOCK);
        }
    }
}

static void product(const Product *p)
{
    const size_t total = vectors_of(p->columns);
    for (size_t done = 0; done < total; done += TILE) {
        const size_t first = done * LANES;
#define CASE(vectors)                                                                                                  \
    case vectors: product_tile(vectors, p, first); break;
        switch (total - done) {
            CASE(1) CASE(2) CASE(3)
#if TILE > 4
            CASE(4) CASE(5) CASE(6) CASE(7)
#endif
#if TILE > 8
            CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14) CASE(15)
#endif
        default: product_tile(TILE, p, first);
        }
#undef CASE
    }
}

#endif

/* Dense matrix products with narrow matrices: twelve vectors of sums in registers, whatever the shape.
 *
 * Vectors run along the columns of C and B; an element of A multiplies a whole row of B. So nothing is transposed but the
 * weights: forward is input · weightᵀ, the gradient below is delta · weight, the weight gradient is deltaᵀ · input.
 */
#ifndef NIMBLEQ_DISTILL_PRODUCT_H
#define NIMBLEQ_DISTILL_PRODUCT_H

#include <stdbool.h>

#include "../learner/activation.h"
#include "padded.h"

typedef enum { AS_IT_IS, RELU, WHERE_POSITIVE } Finish;

/* C = start + A B. */
typedef struct {
    size_t rows, inner, columns; /* of C: rows x columns (padded); the sums run over `inner` */
    const float *a;
    size_t a_row, a_step; /* A[r][j] is a[r * a_row + j * a_step] */
    const float *b;
    size_t b_row;
    float *c;
    size_t c_row;
    const float *start; /* NULL: zeros */
    size_t start_row;   /* 0: the same for every row */
    const float *positive; /* WHERE_POSITIVE: C is zero where this matrix, laid out as C, is not positive */
} Product;

/* Keeps a vector in a register: read from memory by every multiply-add, the loads would be what limits. */
#if defined(__x86_64__) || defined(__i386__)
#define IN_REGISTER(x) __asm__("" : "+x"(x))
#else
#define IN_REGISTER(x)
#endif

INLINE void tile(const int rows, const int vectors, const Finish finish, const Product *p, size_t r, size_t column)
{
    vf sums[12][3];
    const float *start = p->start == NULL ? NULL : p->start + r * p->start_row + column;
    const size_t start_row = p->start_row;
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int v = 0; v < vectors; v++)
            sums[i][v] = start == NULL ? splat(0) : load(start + (size_t)i * start_row + v * LANES);
    const float *a = p->a + r * p->a_row, *b = p->b + column;
    const size_t a_row = p->a_row, a_step = p->a_step, b_row = p->b_row;
    for (size_t j = p->inner; j > 0; j--, a += a_step, b += b_row) {
        vf y[3];
        UNROLL for (int v = 0; v < vectors; v++)
        {
            y[v] = load(b + v * LANES);
            if (v < 2) /* a third would leave no register for x */
                IN_REGISTER(y[v]);
        }
        UNROLL for (int i = 0; i < rows; i++)
        {
            const vf x = splat(a[(size_t)i * a_row]);
            UNROLL for (int v = 0; v < vectors; v++) sums[i][v] += x * y[v];
        }
    }
    const size_t c_row = p->c_row, first = r * c_row + column;
    float *c = p->c + first;
    const float *positive = finish == WHERE_POSITIVE ? p->positive + first : NULL;
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int v = 0; v < vectors; v++)
        {
            const size_t at = (size_t)i * c_row + (size_t)v * LANES;
            if (finish == RELU)
                store(c + at, relu(sums[i][v]));
            else if (finish == WHERE_POSITIVE)
                store(c + at, where(load(positive + at) > 0.0f, sums[i][v]));
            else
                store(c + at, sums[i][v]);
        }
}

#define ROWS(count, vectors)                                                                                           \
    for (; r + (count) <= p->rows; r += (count))                                                                       \
        tile(count, vectors, finish, p, r, column);

INLINE void product_finished(const Finish finish, const Product *p)
{
    size_t column = 0, left = p->columns / LANES;
    while (left > 0) {
        size_t r = 0;
        if (left == 3 || left > 4) {
            ROWS(4, 3) ROWS(1, 3)
            column += 3 * LANES, left -= 3;
        } else if (left > 1) {
            ROWS(6, 2) ROWS(2, 2) ROWS(1, 2)
            column += 2 * LANES, left -= 2;
        } else {
            ROWS(12, 1) ROWS(4, 1) ROWS(1, 1)
            column += LANES, left -= 1;
        }
    }
}
#undef ROWS

static void product(Finish finish, const Product *p)
{
    switch (finish) {
    case AS_IT_IS: product_finished(AS_IT_IS, p); break;
    case RELU: product_finished(RELU, p); break;
    case WHERE_POSITIVE: product_finished(WHERE_POSITIVE, p); break;
    }
}

#endif

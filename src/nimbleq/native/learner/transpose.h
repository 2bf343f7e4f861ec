/* Transposes of LANES x LANES squares in registers: log2(LANES) rounds that swap off-diagonal sub-blocks. */
#ifndef NIMBLEQ_LEARNER_TRANSPOSE_H
#define NIMBLEQ_LEARNER_TRANSPOSE_H

#include "matrix.h"

/* Lane j of the two halves of a swap at distance s between rows a and b (lanes LANES.. are b's). */
#define LOW(j, s) (((j) & (s)) ? LANES + (j) - (s) : (j))
#define HIGH(j, s) (((j) & (s)) ? LANES + (j) : (j) + (s))

#define FOUR(half, j, s) half(j, s), half(j + 1, s), half(j + 2, s), half(j + 3, s)
#if LANES == 4
#define INDICES(half, s) FOUR(half, 0, s)
#elif LANES == 8
#define INDICES(half, s) FOUR(half, 0, s), FOUR(half, 4, s)
#else
#define INDICES(half, s) FOUR(half, 0, s), FOUR(half, 4, s), FOUR(half, 8, s), FOUR(half, 12, s)
#endif

#define SWAP(s)                                                                                                        \
    UNROLL for (int i = 0; i < LANES; i++)                                                                             \
    {                                                                                                                  \
        if (i & (s))                                                                                                   \
            continue;                                                                                                  \
        const vf a = row[i], b = row[i + (s)];                                                                         \
        row[i] = __builtin_shufflevector(a, b, INDICES(LOW, s));                                                       \
        row[i + (s)] = __builtin_shufflevector(a, b, INDICES(HIGH, s));                                                \
    }

/* row[i][j] <-> row[j][i]. */
INLINE void transpose_vectors(vf row[LANES])
{
#if LANES >= 16
    SWAP(8)
#endif
#if LANES >= 8
    SWAP(4)
#endif
    SWAP(2)
    SWAP(1)
}

/* Lane i is the sum of the lanes of row[i], in one fixed order; destroys the rows. */
INLINE vf sum_each(vf row[LANES])
{
    transpose_vectors(row);
    UNROLL for (int half = LANES / 2; half > 0; half /= 2)
        UNROLL for (int i = 0; i < half; i++) row[i] += row[i + half];
    return row[0];
}

/* out[columns, rows] = in[rows, columns]; `stride` rows per block of `in`, `columns` per block of `out`. */
static void transpose(const float *in, float *out, size_t rows, size_t columns, size_t stride)
{
    for (size_t c = 0; c < columns; c += LANES)
        for (size_t r = 0; r < rows; r += LANES) {
            const float *from = element(in, stride, r, c);
            float *to = out + offset_of(columns, c, r);
            vf row[LANES];
            UNROLL for (size_t i = 0; i < LANES; i++) row[i] = r + i < rows ? load(from + i * BLOCK) : splat(0);
            transpose_vectors(row);
            UNROLL for (size_t i = 0; i < LANES; i++) if (c + i < columns) store(to + i * BLOCK, row[i]);
        }
}

#undef LOW
#undef HIGH
#undef FOUR
#undef INDICES
#undef SWAP
#endif

/* Transpose of a PANEL x PANEL block: log2(LANES) rounds that swap off-diagonal sub-blocks, in registers. */
#ifndef NIMBLEQ_LEARNER_TRANSPOSE_H
#define NIMBLEQ_LEARNER_TRANSPOSE_H

#include "vec.h"

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

INLINE void transpose_square(const float *in, float *out)
{
    vf row[LANES];
    UNROLL for (int i = 0; i < LANES; i++) row[i] = load(in + i * PANEL);
    transpose_vectors(row);
    UNROLL for (int i = 0; i < LANES; i++) store(out + i * PANEL, row[i]);
}

/* out[j][i] = in[i][j], both [PANEL][PANEL]. */
static inline void transpose_block(const float *in, float *out)
{
    transpose_square(in, out);
    transpose_square(in + LANES, out + LANES * PANEL);
    transpose_square(in + LANES * PANEL, out + LANES);
    transpose_square(in + LANES * PANEL + LANES, out + LANES * PANEL + LANES);
}

#undef LOW
#undef HIGH
#undef FOUR
#undef INDICES
#undef SWAP
#endif

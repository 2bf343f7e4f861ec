/* How matrices lie in memory: x[column / BLOCK][row][column % BLOCK], `stride` rows per block.
 *
 * A row of a block is BLOCK consecutive floats; the last vector of a row that is used is padded with zeros.
 */
#ifndef NIMBLEQ_LEARNER_MATRIX_H
#define NIMBLEQ_LEARNER_MATRIX_H

#include "vec.h"

INLINE size_t vectors_of(size_t width) { return (width + LANES - 1) / LANES; }
INLINE size_t blocks_of(size_t width) { return (width + BLOCK - 1) / BLOCK; }

/* How much of `width` lies in the given block. */
INLINE size_t width_in(size_t width, size_t block)
{
    const size_t left = width - block * BLOCK;
    return left < BLOCK ? left : BLOCK;
}

INLINE size_t offset_of(size_t stride, size_t row, size_t column)
{
    return (column / BLOCK * stride + row) * BLOCK + column % BLOCK;
}

INLINE const float *element(const float *x, size_t stride, size_t row, size_t column)
{
    return x + offset_of(stride, row, column);
}

#endif

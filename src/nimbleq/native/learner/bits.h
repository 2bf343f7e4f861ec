/* Which elements of a matrix are not zero, for product.h. */
#ifndef NIMBLEQ_LEARNER_BITS_H
#define NIMBLEQ_LEARNER_BITS_H

#include "matrix.h"

/* Of x[rows, width]: bits[width / BLOCK][row], `stride` words per block. */
static void row_bits(const float *x, size_t rows, size_t width, size_t stride, uint64_t *bits)
{
    for (size_t block = 0; block < blocks_of(width); block++, x += stride * BLOCK, bits += stride) {
        const size_t vectors = vectors_of(width_in(width, block));
        for (size_t r = 0; r < rows; r++) {
            uint64_t word = 0;
            for (size_t v = 0; v < vectors; v++)
                word |= nonzero_lanes(load(x + r * BLOCK + v * LANES)) << v * LANES;
            bits[r] = word;
        }
    }
}

#endif

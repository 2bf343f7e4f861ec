/* Rows of matrices here are whole vectors. */
#ifndef NIMBLEQ_DISTILL_PADDED_H
#define NIMBLEQ_DISTILL_PADDED_H

#include "../learner/vec.h"

INLINE size_t padded(size_t width) { return (width + LANES - 1) / LANES * LANES; }

#endif

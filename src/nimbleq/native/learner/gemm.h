/* The register tile behind all three matrix products of a layer, and the loops that cut a product into such tiles.
 *
 * Storage (P = PANEL):
 *   weights      w[k / P][n][k % P]   input k, output n; all panels of one layer are contiguous
 *   activations  x[k][P]              feature-major, one panel of P samples
 *   inputs       xt[k / P][b][k % P]  batch-major copy of the inputs, needed only by the weight gradient
 *
 * With these every product reads one operand as contiguous vectors and the other as scalars out of contiguous blocks,
 * so neither weights nor gradients are ever repacked and power-of-two strides never meet in one cache set:
 *   forward          z[n][:]   = sum_k w[k][n] * x[k][:]
 *   input gradient   g[k][:]   = sum_n w[k][n] * d[n][:]
 *   weight gradient  dw[k][n]  = sum_b d[n][b] * xt[b][k]
 */
#ifndef NIMBLEQ_LEARNER_GEMM_H
#define NIMBLEQ_LEARNER_GEMM_H

#include "vec.h"

/* acc[i][0..1] += sum_c a(i, c) * b[c][0..PANEL).
 *
 * a(i, c) = a[c / P * block + c % P * step + i * row]. The caller passes rows, row and step as constants: everything
 * unrolls, and acc lives in registers.
 */
INLINE void dot_tile(const int rows, const size_t row, const size_t step, const size_t block, const float *restrict a,
                     const float *restrict b, size_t length, vf acc[ROWS][2])
{
    vf sums[ROWS][2];
    UNROLL for (int i = 0; i < rows; i++) sums[i][0] = acc[i][0], sums[i][1] = acc[i][1];
    while (length > 0) {
        const size_t count = length < PANEL ? length : PANEL;
        const float *scalar = a;
        for (size_t c = 0; c < count; c++, scalar += step, b += PANEL) {
            const vf b0 = load(b), b1 = load(b + LANES);
            UNROLL for (int i = 0; i < rows; i++)
            {
                sums[i][0] += scalar[(size_t)i * row] * b0;
                sums[i][1] += scalar[(size_t)i * row] * b1;
            }
        }
        a += block;
        length -= count;
    }
    UNROLL for (int i = 0; i < rows; i++) acc[i][0] = sums[i][0], acc[i][1] = sums[i][1];
}

/* The same for the first half of each b[c] only (acc[i][0]), when the other half is padding; `length` is a multiple of
 * PANEL, row = PANEL and step = 1. */
INLINE void dot_tile_narrow(const int rows, const size_t block, const float *restrict a, const float *restrict b,
                            size_t length, vf acc[ROWS][2])
{
    vf even[ROWS], odd[ROWS];
    UNROLL for (int i = 0; i < rows; i++) even[i] = odd[i] = splat(0);
    for (; length > 0; length -= PANEL, a += block)
        for (size_t c = 0; c < PANEL; c += 2, b += 2 * PANEL) {
            const vf b0 = load(b), b1 = load(b + PANEL);
            UNROLL for (int i = 0; i < rows; i++)
            {
                even[i] += a[i * PANEL + c] * b0;
                odd[i] += a[i * PANEL + c + 1] * b1;
            }
        }
    UNROLL for (int i = 0; i < rows; i++) acc[i][0] = even[i] + odd[i];
}

/* Calls TILE(rows, first) over `total` rows in tiles of at most ROWS whose heights differ by at most one: short tiles
 * leave the FMA pipes waiting for each other. */
#define FOR_TILES(total, TILE)                                                                                         \
    do {                                                                                                               \
        const size_t tiles_ = ((total) + ROWS - 1) / ROWS, base_ = (total) / tiles_, extra_ = (total) % tiles_;        \
        for (size_t tile_ = 0, first_ = 0; tile_ < tiles_; tile_++) {                                                  \
            const size_t rows_ = base_ + (tile_ < extra_);                                                             \
            switch (rows_) {                                                                                           \
            case 1: TILE(1, first_); break;                                                                            \
            case 2: TILE(2, first_); break;                                                                            \
            case 3: TILE(3, first_); break;                                                                            \
            case 4: TILE(4, first_); break;                                                                            \
            case 5: TILE(5, first_); break;                                                                            \
            case 6: TILE(6, first_); break;                                                                            \
            FOR_TILES_TALL(TILE)                                                                                       \
            default: __builtin_unreachable();                                                                          \
            }                                                                                                          \
            first_ += rows_;                                                                                           \
        }                                                                                                              \
    } while (0)
#if ROWS > 6
#define FOR_TILES_TALL(TILE)                                                                                           \
    case 7: TILE(7, first_); break;                                                                                    \
    case 8: TILE(8, first_); break;
#else
#define FOR_TILES_TALL(TILE)
#endif

/* z[n][:] = bias[n] + sum_k w[k][n] * x[k][:] for one panel of samples. */
static void gemm_forward(const float *w, const float *bias, const float *x, float *z, size_t in, size_t out)
{
#define TILE(rows, n)                                                                                                  \
    {                                                                                                                  \
        vf acc[ROWS][2];                                                                                               \
        UNROLL for (int i = 0; i < rows; i++) acc[i][0] = acc[i][1] = splat(bias[n + i]);                              \
        dot_tile(rows, PANEL, 1, out * PANEL, w + n * PANEL, x, in, acc);                                              \
        UNROLL for (int i = 0; i < rows; i++)                                                                          \
        {                                                                                                              \
            store(z + (n + i) * PANEL, acc[i][0]);                                                                     \
            store(z + (n + i) * PANEL + LANES, acc[i][1]);                                                             \
        }                                                                                                              \
    }
    FOR_TILES(out, TILE);
#undef TILE
}

/* g[k][:] = sum_n w[k][n] * d[n][:] for one panel of samples. */
static void gemm_input_gradient(const float *w, const float *d, float *g, size_t in, size_t out)
{
    for (size_t k0 = 0; k0 < in; k0 += PANEL, w += out * PANEL, g += PANEL * PANEL) {
        const size_t width = in - k0 < PANEL ? in - k0 : PANEL;
#define TILE(rows, k)                                                                                                  \
    {                                                                                                                  \
        vf acc[ROWS][2];                                                                                               \
        UNROLL for (int i = 0; i < rows; i++) acc[i][0] = acc[i][1] = splat(0);                                        \
        dot_tile(rows, 1, PANEL, PANEL * PANEL, w + k, d, out, acc);                                                   \
        UNROLL for (int i = 0; i < rows; i++)                                                                          \
        {                                                                                                              \
            store(g + (k + i) * PANEL, acc[i][0]);                                                                     \
            store(g + (k + i) * PANEL + LANES, acc[i][1]);                                                             \
        }                                                                                                              \
    }
        FOR_TILES(width, TILE);
#undef TILE
    }
}

#endif

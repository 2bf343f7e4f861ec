/* Lines below and above a function, as nimbleq/compress/robust/relax.py derives them. */
#ifndef NQ_ROBUST_RELAX_H
#define NQ_ROBUST_RELAX_H

#include "network.h"

/* below·a + below_at <= f(a) <= above·a + above_at for every sum; low and high enclose f(a). */
typedef struct {
    double *below, *below_at, *above, *above_at, *low, *high;
} Lines;

static inline void relax_piece(const Layer *f, size_t i, double low, double high, Lines out)
{
    const double L = f->low, H = f->high, scale = f->scale[i], zero = f->zero[i];
    const double start = low * scale + zero, end = high * scale + zero;
    const double first = clamped(f, start), last = clamped(f, end), middle = 0.5 * (start + end);
    const bool low_corner = start < L && end > L, high_corner = end > H && start < H;
    const double chord = end > start ? (last - first) / larger(end - start, 1e-300) : 0.0;
    const double flat = start < L ? f->slope : end > H ? 0.0 : 1.0; /* where there is no corner inside */
    double above, below;
    if (high_corner)
        above = low_corner ? (middle < H ? (H - L) / (H - start) : 0.0) : (H - start > end - H ? 1.0 : 0.0);
    else
        above = low_corner ? chord : flat;
    if (low_corner)
        below = high_corner ? (middle > L ? (H - L) / (end - L) : 0.0) : (end - L > L - start ? 1.0 : f->slope);
    else
        below = high_corner ? chord : flat;
    /* Each line goes through a corner, or through the start of the interval. */
    double above_at = high_corner ? H - above * H : first - above * start;
    double below_at = low_corner ? L - below * L : first - below * start;
    double least = first, most = last;
    if (f->rounds) {
        least = apply(f, i, low), most = apply(f, i, high);
        above_at += 0.5, below_at -= 0.5;
        if (above * middle + above_at >= most)
            above = 0.0, above_at = most;
        if (below * middle + below_at <= least)
            below = 0.0, below_at = least;
    }
    out.below[i] = below * scale, out.below_at[i] = below_at + below * zero;
    out.above[i] = above * scale, out.above_at[i] = above_at + above * zero;
    out.low[i] = least, out.high[i] = most;
}

/* a / sqrt(mean a² + eps): the divisor lies in an interval, and chords enclose a times its inverse. */
static inline void relax_norm(const Layer *f, const double *low, const double *high, Lines out)
{
    double least_square = 0.0, most_square = 0.0;
    for (size_t i = 0; i < f->size; i++) {
        const double a = low[i] * low[i], b = high[i] * high[i];
        least_square += low[i] > 0 || high[i] < 0 ? smaller(a, b) : 0.0;
        most_square += larger(a, b);
    }
    const double count = (double)f->size, limit = sqrt(count);
    const double most = 1.0 / sqrt(least_square / count + f->eps), least = 1.0 / sqrt(most_square / count + f->eps);
    for (size_t i = 0; i < f->size; i++) {
        const double top = (high[i] > 0 ? most : least) * high[i], bottom = (low[i] > 0 ? least : most) * low[i];
        const double at_low = (low[i] > 0 ? most : least) * low[i], at_high = (high[i] > 0 ? least : most) * high[i];
        const double width = high[i] > low[i] ? high[i] - low[i] : 1.0;
        out.above[i] = (top - at_low) / width, out.below[i] = (at_high - bottom) / width;
        out.above_at[i] = at_low - out.above[i] * low[i], out.below_at[i] = bottom - out.below[i] * low[i];
        out.low[i] = larger(bottom, -limit), out.high[i] = smaller(top, limit);
    }
}

static inline void relax(const Layer *f, const double *low, const double *high, Lines out)
{
    if (f->eps >= 0) {
        relax_norm(f, low, high, out);
        return;
    }
    for (size_t i = 0; i < f->size; i++)
        relax_piece(f, i, low[i], high[i], out);
}

/* Whether narrower bounds of a sum could make its lines better. */
static inline bool undecided(const Layer *f, size_t i, double low, double high)
{
    if (f->eps >= 0)
        return true;
    if (f->rounds)
        return apply(f, i, low) != apply(f, i, high);
    const double start = low * f->scale[i] + f->zero[i], end = high * f->scale[i] + f->zero[i];
    return (start < f->low && end > f->low) || (start < f->high && end > f->high);
}

#endif

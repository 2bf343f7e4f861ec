/* Adam [1412.6980, algorithm 1] and RAdam [1908.03265, algorithm 2] in PyTorch's arrangement, with the Polyak step of the
 * target network beside them. */
#ifndef NIMBLEQ_LEARNER_ADAM_H
#define NIMBLEQ_LEARNER_ADAM_H

#include "matrix.h"

#define BETA1 0.9
#define BETA2 0.999

/* What is the same for every parameter of one update. */
typedef struct {
    float step_size;          /* lr / (1 - beta1^t) */
    float inverse_correction; /* 1 / sqrt(1 - beta2^t) */
    float eps;
    float tau;         /* of the Polyak step; 0: the target is not touched */
    float grad_factor; /* from the global-norm clip; 1: unclipped */
} AdamStep;

/* The four arrays that one update moves; equal layout. target may be NULL. */
typedef struct {
    float *param, *moment1, *moment2, *target;
} AdamArrays;

INLINE AdamStep adam_step(double lr, double eps, double tau, int64_t updates_before)
{
    const double t = (double)(updates_before + 1);
    return (AdamStep){
        .step_size = (float)(lr / (1.0 - pow(BETA1, t))),
        .inverse_correction = (float)(1.0 / sqrt(1.0 - pow(BETA2, t))),
        .eps = (float)eps,
        .tau = (float)tau,
        .grad_factor = 1.0f,
    };
}

/* RAdam is Adam with another step size: rectified once the variance of 1 / sqrt(v) is known, and until then without the
 * division by sqrt(v). Its eps is added before the correction, not after. */
INLINE AdamStep radam_step(double lr, double eps, double tau, int64_t updates_before)
{
    AdamStep step = adam_step(lr, eps, tau, updates_before);
    const double t = (double)(updates_before + 1), decay = pow(BETA2, t);
    const double longest = 2.0 / (1.0 - BETA2) - 1.0, length = longest - 2.0 * t * decay / (1.0 - decay);
    if (length > 5.0) {
        step.step_size *= (float)sqrt((length - 4.0) * (length - 2.0) * longest /
                                      ((longest - 4.0) * (longest - 2.0) * length));
        step.eps *= step.inverse_correction;
    } else {
        step.inverse_correction = 0.0f;
        step.eps = 1.0f;
    }
    return step;
}

/* One vector at offset `at`. */
INLINE void adam_vector(const AdamArrays *arrays, size_t at, vf grad, const AdamStep *step)
{
    vf m = load(arrays->moment1 + at), v = load(arrays->moment2 + at), w = load(arrays->param + at);
    m += (float)(1.0 - BETA1) * (grad - m);
    v = (float)BETA2 * v + (float)(1.0 - BETA2) * grad * grad;
    w -= step->step_size * m / (vsqrt(v) * step->inverse_correction + step->eps);
    store(arrays->moment1 + at, m);
    store(arrays->moment2 + at, v);
    store(arrays->param + at, w);
    if (step->tau > 0) {
        const vf target = load(arrays->target + at);
        store(arrays->target + at, target + step->tau * (w - target));
    }
}

/* The parameters [rows, width <= BLOCK] that begin at offset `at`, from their gradients. */
static void adam_rows(const AdamArrays *arrays, size_t at, const float *grad, size_t rows, size_t width,
                      const AdamStep *step)
{
    for (size_t r = 0; r < rows; r++, at += BLOCK, grad += BLOCK)
        for (size_t i = 0; i < width; i += LANES)
            adam_vector(arrays, at + i, load(grad + i) * step->grad_factor, step);
}

#endif

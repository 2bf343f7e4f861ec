/* Learned step size quantization [1902.08153]: fake quantization of weights and activations, and the gradients of their
 * steps.
 *
 * A step is learnt as its base-2 logarithm (as TQT does [1903.08066]): Adam's updates have the size of the learning rate
 * whatever the gradient, so they must be relative changes. With powers of two it is 2^ceil(log2), straight through.
 */
#ifndef NIMBLEQ_DISTILL_LSQ_H
#define NIMBLEQ_DISTILL_LSQ_H

#include "../learner/activation.h"
#include "product.h"
#include "student.h"

#define LN2 0.69314718f

/* To the nearest integer, ties to even; |x| < 2^22. */
INLINE vf vround(vf x)
{
    const float shift = 12582912.0f;
    return (x + shift) - shift;
}

/* To the nearest integer, ties up, as the integer requantize does; |x| < 2^22. */
INLINE vf vround_up(vf x)
{
    const vf y = x + 0.5f, whole = vround(y);
    return whole - where(whole > y, splat(1));
}

INLINE vf between(vf x, float low, float high)
{
    x = choose(x > high, splat(high), x);
    return choose(x < low, splat(low), x);
}

static float step_size(const Options *options, float log2_step)
{
    return exp2f(options->powers_of_two ? ceilf(log2_step) : log2_step);
}

/* layer->step, unit, rounded and offset from the parameters. */
static void round_layer(Student *self, size_t l)
{
    const Options *options = &self->options;
    Layer *layer = &self->layer[l];
    const float *weight = self->param + layer->weight, *bias = self->param + layer->bias;
    const float *log2_step = self->param + layer->weight_step;
    const float input = l == 0 ? 1.0f : step_size(options, self->param[layer->input_step]);
    for (size_t o = layer->out; o < layer->out_stride; o++)
        layer->unit[o] = 1.0f;
    for (size_t o = 0; o < layer->out; o++) {
        const float step = step_size(options, log2_step[options->shared[l] ? 0 : o]), unit = step * input;
        layer->step[o] = step;
        layer->unit[o] = unit;
        layer->offset[o] = rintf(bias[o] / unit) * unit;
        for (size_t i = o * layer->in_stride, j = 0; j < layer->in_stride; i += LANES, j += LANES) {
            const vf gain = load(layer->gain + j), level = load(weight + i) * gain / step;
            store(layer->rounded + i, between(vround(level), options->low[l], options->high[l]) * step / gain);
        }
    }
}

/* Sums [rows][out_stride] that float arithmetic left beside an integer become that integer again, so that ties fall as
 * they do in the integer policy. Beyond 2^22 they stay. */
static void round_sums(const Layer *layer, size_t rows, float *sums)
{
    for (size_t s = 0; s < rows; s++, sums += layer->out_stride)
        for (size_t i = 0; i < layer->out_stride; i += LANES) {
            const vf unit = load(layer->unit + i), sum = load(sums + i) / unit;
            store(sums + i, choose(vabs(sum) < 4194304.0f, vround(sum), sum) * unit);
        }
}

/* The weight gradients at `grad`, of the rounded weights, become those of the weights; adds those of the steps. */
static void lsq_weight_gradients(Student *self, size_t l)
{
    const Options *options = &self->options;
    const Layer *layer = &self->layer[l];
    const float *weight = self->param + layer->weight;
    float *grad = self->grad + layer->weight, *step_grad = self->grad + layer->weight_step;
    const float low = options->low[l], high = options->high[l];
    const size_t count = options->shared[l] ? layer->in * layer->out : layer->in;
    const float scale = LN2 / sqrtf((float)count * high);
    for (size_t o = 0; o < layer->out; o++) {
        vf total = splat(0);
        const float step = layer->step[o];
        for (size_t i = o * layer->in_stride, j = 0; j < layer->in_stride; i += LANES, j += LANES) {
            const vf gain = load(layer->gain + j), level = load(weight + i) * gain / step, g = load(grad + i);
            const vi inside = (level >= low) & (level <= high);
            const vf rounded = between(vround(level), low, high);
            total += g / gain * (rounded - (vf)((vi)level & inside));
            store(grad + i, (vf)((vi)g & inside));
        }
        step_grad[options->shared[l] ? 0 : o] += sum(total) * step * scale;
    }
}

/* The inputs of layer `l` from layer->real: what a requantize with a fused ReLU makes of them. */
static void round_inputs(Student *self, size_t l, size_t rows)
{
    Layer *layer = &self->layer[l];
    const float step = step_size(&self->options, self->param[layer->input_step]), top = self->options.top[l];
    for (size_t i = 0; i < rows * layer->in_stride; i += LANES)
        store(layer->input + i, between(vround_up(load(layer->real + i) / step), 0.0f, top) * step);
}

/* The gradients of the rounded inputs of layer `l`, in the delta below, become those of the sums below; adds that of the
 * inputs' step. */
static void lsq_input_gradients(Student *self, size_t l, size_t rows)
{
    const Layer *layer = &self->layer[l];
    const float step = step_size(&self->options, self->param[layer->input_step]), top = self->options.top[l];
    const float scale = LN2 / sqrtf((float)layer->in * top);
    float *delta = self->layer[l - 1].delta;
    vf total = splat(0);
    for (size_t i = 0; i < rows * layer->in_stride; i += LANES) {
        const vf level = load(layer->real + i) / step, g = load(delta + i);
        const vi inside = (level > 0.0f) & (level < top);
        total += g * (between(vround_up(level), 0.0f, top) - (vf)((vi)level & inside));
        store(delta + i, (vf)((vi)g & inside));
    }
    self->grad[layer->input_step] += sum(total) * step * scale;
}

#endif

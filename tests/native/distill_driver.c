/* Trains small students of awkward shapes on fixed pseudo-random states and prints one line of sums per student, for
 * comparing vector widths and for running under sanitizers. Every array is exactly as large as it is said to be. */
#include <stdio.h>
#include <stdlib.h>

#include "product.h"
#include "student.h"

enum { STATES = 70, UPDATES = 6 };

static uint32_t state = 1;

static float uniform(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static void set_up(Student *student)
{
    const Options *options = &student->options;
    for (size_t l = 0; l < options->layers; l++) {
        const Layer *layer = &student->layer[l];
        for (size_t o = 0; o < layer->out; o++) {
            for (size_t i = 0; i < layer->in; i++)
                student->param[layer->weight + o * layer->in_stride + i] = uniform() / sqrtf((float)layer->in);
            if (options->quantized)
                student->param[layer->weight_step + o] = -4.0f;
        }
        for (size_t i = 0; i < layer->in_stride; i++)
            layer->gain[i] = i < layer->in ? 0.75f : 1.0f;
        if (options->quantized)
            student->param[layer->input_step] = -6.0f;
    }
    for (size_t i = 0; i < options->width[0]; i++) {
        student->scale[i] = 0.01f;
        student->shift[i] = -1.0f;
    }
}

static void train(Options options, size_t share, size_t parts, bool bytes, bool masks)
{
    for (size_t l = 0; l < options.layers; l++) {
        options.low[l] = -7, options.high[l] = 7, options.top[l] = 255;
        options.shared[l] = l + 1 == options.layers;
    }
    Student student;
    if (!student_create(&student, &options))
        exit(1);
    set_up(&student);
    const size_t in = options.width[0], actions = options.width[options.layers], stride = targets_stride(&student);
    const size_t row = student.layer[0].in_stride;
    float *obs = calloc(STATES * row, sizeof *obs), *targets = calloc(STATES * stride, sizeof *targets);
    unsigned char *raw = malloc(STATES * in);
    for (size_t s = 0; s < STATES; s++) {
        for (size_t i = 0; i < in; i++) {
            obs[s * row + i] = uniform();
            raw[s * in + i] = (unsigned char)(127.5f * (1.0f + uniform()));
        }
        for (size_t a = 0; a < actions; a++) {
            const bool legal = !masks || a == s % actions || uniform() > 0;
            targets[s * stride + a] = legal ? (a == s % actions ? 0.7f : 0.1f) : -1.0f;
            targets[s * stride + actions + a] = legal ? uniform() : 0.0f;
        }
    }
    const uint64_t sizes[2] = {parts == 1 ? STATES : 20, STATES - 20};
    const Data data = {bytes ? NULL : obs, bytes ? raw : NULL, targets, parts, sizes};
    const Run run = {7, share, UPDATES, UPDATES - 2, 1e-2, 0.5, 0.1};
    for (int update = 0; update < UPDATES; update++)
        student_update(&student, &data, &run);
    float *q = malloc(STATES * actions * sizeof *q);
    student_q(&student, data.obs, data.raw, STATES, q);
    double total = 0, squares = 0;
    for (size_t i = 0; i < STATES * actions; i++) {
        total += q[i];
        squares += (double)q[i] * q[i];
    }
    printf("%.9g %.9g\n", total, squares);
    free(obs), free(targets), free(raw), free(q);
    student_free(&student);
}

int main(void)
{
    static const size_t widths[][4] = {{3, 2}, {8, 24, 24, 4}, {5, 1, 3}, {17, 33, 9, 18}, {1, 40, 1}};
    static const size_t layers[] = {1, 3, 2, 3, 2};
    for (size_t n = 0; n < sizeof layers / sizeof *layers; n++)
        for (int variant = 0; variant < 8; variant++) {
            Options options = {.layers = layers[n], .adam_eps = 1e-8, .max_grad_norm = variant & 1 ? 0.5 : 0.0};
            for (size_t l = 0; l <= layers[n]; l++)
                options.width[l] = widths[n][l];
            options.quantized = variant & 2;
            options.powers_of_two = variant & 4;
            train(options, 5 + 13 * n, 1 + n % 2, variant & 4, variant & 1);
        }
    return 0;
}

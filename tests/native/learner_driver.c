/* Trains small networks of awkward shapes on fixed pseudo-random batches and prints one checksum line per network, for
 * comparing vector widths and for running under sanitizers. Every array is exactly as large as it is said to be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "learner.h"
#include "matrix.h"

static uint32_t state = 1;

static float uniform(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / 8388608.0f - 1.0f;
}

static float *uniforms(size_t count)
{
    float *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = uniform();
    return values;
}

/* The same weights whatever the vectors' width. */
static void set_weights(Learner *learner)
{
    for (size_t l = 0; l < learner->layers; l++) {
        const Layer *layer = &learner->layer[l];
        for (size_t n = 0; n < layer->out; n++)
            for (size_t k = 0; k < layer->in; k++) {
                const size_t at = layer->head ? offset_of(layer->rows, n, k) : offset_of(layer->rows, k, n);
                learner->param[layer->weight + at] = uniform() / sqrtf((float)layer->in);
                if (learner->options.noisy)
                    learner->param[learner->mean_count + layer->weight + at] = 0.1f * uniform();
            }
    }
    memcpy(learner->target, learner->param, learner->param_count * sizeof *learner->param);
    for (size_t i = 0; i < learner->options.obs; i++)
        learner->inverse_std[i] = 1.5f;
}

static void train(const Options *options, size_t batch_size)
{
    Learner learner;
    if (!learner_create(&learner, options, 1) || !learner_reserve(&learner, batch_size))
        exit(1);
    set_weights(&learner);
    float *obs = uniforms(batch_size * options->obs), *next_obs = uniforms(batch_size * options->obs);
    float *reward = uniforms(batch_size), *discount = uniforms(batch_size), *weight = uniforms(batch_size);
    float *abs_td = malloc(batch_size * sizeof *abs_td), *q = malloc(batch_size * options->actions * sizeof *q);
    int64_t *action = malloc(batch_size * sizeof *action);
    for (size_t i = 0; i < batch_size; i++) {
        action[i] = (int64_t)(i % options->actions);
        weight[i] = vabs(splat(weight[i]))[0];
    }
    float *probability = uniforms(batch_size * options->actions), *strength = uniforms(batch_size);
    for (size_t i = 0; i < batch_size * options->actions; i++)
        probability[i] = i % options->actions ? probability[i] : 0.5f; /* some are negative: illegal */
    for (size_t i = 0; i < batch_size; i++)
        strength[i] = vabs(splat(strength[i]))[0];
    const Imitation towards = {probability, strength, 2.0f};
    float *noise = options->noisy ? uniforms(2 * learner_noise_count(&learner)) : NULL;
    const Batch batch = {obs, action, reward, discount, next_obs, weight, NULL, NULL, noise};
    double td_total = 0, q_total = 0;
    for (int update = 0; update < 10; update++) {
        learner_update(&learner, &batch, update % 2 ? &towards : NULL, batch_size, abs_td);
        learner_imitate(&learner, obs, &towards, batch_size);
        for (size_t i = 0; i < batch_size; i++)
            td_total += abs_td[i];
    }
    learner_q(&learner, obs, batch_size, q);
    learner_act(&learner, obs, batch_size, action);
    for (size_t i = 0; i < batch_size * options->actions; i++)
        q_total += q[i];
    printf("%.9g %.9g\n", td_total / (double)batch_size, q_total / (double)batch_size);
    free(obs), free(next_obs), free(reward), free(discount), free(weight), free(abs_td), free(q), free(action);
    free(probability), free(strength), free(noise);
    learner_free(&learner);
}

int main(void)
{
    const size_t hidden[][3] = {{5, 7, 0}, {0, 0, 0}, {64, 64, 0}, {1, 33, 13}, {70, 130, 70}};
    const size_t obs[] = {3, 1, 16, 17, 40}, actions[] = {2, 1, 5, 3, 18}, batch[] = {1, 7, 32, 33, 64};
    for (size_t c = 0; c < sizeof obs / sizeof *obs; c++)
        for (int bits = 0; bits < 8; bits++) {
            const Head head = (Head)((c + (size_t)bits) % 3);
            Options options = {
                .obs = obs[c], .actions = actions[c], .normalize = bits & 1, .layer_norm = bits >> 1 & 1,
                .dueling = bits & 1, .double_q = bits >> 2, .huber = bits >> 1 & 1, .target = (Target)(bits % 3),
                .target_every = 3, .lr_updates = 5, .obs_clip = 1, .tau = 0.1, .lr = 1e-3, .lr_end = 1e-4,
                .adam_eps = 1e-5, .max_grad_norm = bits >> 2 ? 0.5 : 0, .reward_scale = 0.5,
                .head = head, .atoms = head == HEAD_Q ? 1 : 2 + 7 * c, .v_min = -1, .v_max = 1.5,
                .munchausen = c % 2, .noisy = bits >> 1 & 1, .munchausen_alpha = 0.9, .munchausen_tau = 0.5, .munchausen_clip = -1,
            };
            while (options.hidden_layers < 3 && hidden[c][options.hidden_layers] > 0) {
                options.hidden[options.hidden_layers] = hidden[c][options.hidden_layers];
                options.hidden_layers++;
            }
            train(&options, batch[c]);
        }
    return 0;
}

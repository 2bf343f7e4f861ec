/* Reading and running programs. */
#include "program.h"

#include <stdlib.h>
#include <string.h>

#include "../kernels/finite.h"

static void *aligned(size_t size)
{
    void *memory = NULL;
    return posix_memalign(&memory, 64, size < 64 ? 64 : size) == 0 ? memory : NULL;
}

static const char *read_step(Step *step, const int32_t *word, const Program *program, const Kernel *isa)
{
    const Head *head = &program->head;
    int64_t behind[NQ_CONSTANTS];
    step->op = word[0];
    step->x = word[1];
    step->y = word[2];
    memcpy(step->size, word + 3, sizeof step->size);
    memcpy(step->real, word + 3 + NQ_SIZES, sizeof step->real);
    for (int i = 0; i < NQ_CONSTANTS; ++i) {
        const int32_t place = word[3 + NQ_SIZES + NQ_REALS + i];
        if (place >= head->constant_bytes || (place >= 0 && place % 64 != 0)) return "a constant lies outside";
        step->constant[i] = place < 0 ? NULL : program->constants + place;
        behind[i] = place < 0 ? 0 : head->constant_bytes - place;
    }
    if (step->op < 0 || step->op >= NQ_OPS) return "an op is unknown";
    step->kernel = isa[step->op];
    return nq_check_step(step, head, behind);
}

static double work(const Step *step)
{
    const Sums *s = &step->sums;
    const double windows = (double)s->rows * s->cols;
    if (step->op == NQ_SCATTER_F32 || step->op == NQ_SCATTER_INT) {
        const Scatter *few = &step->scatter; /* about an eighth of the inputs are there */
        return (double)few->inputs / 8 * few->lines * few->run;
    }
    if (step->op == NQ_SPARSE_F32 || step->op == NQ_SPARSE_INT) return windows * s->entries;
    const int dense = step->op == NQ_SUMS_F32 || step->op == NQ_DOTS_F32 || step->op == NQ_SUMS_U8 || step->op == NQ_SUMS_I16;
    return dense ? windows * s->runs * s->run * s->out : 0.0;
}

static const char *read_head(const Head *head, size_t size)
{
    const int64_t steps = (int64_t)head->trunk + head->action + head->values;
    if (head->magic != NQ_MAGIC) return "it is not a program";
    if (head->obs_type != NQ_F32 && head->obs_type != NQ_U8) return "observations are float32 or uint8";
    if (head->trunk < 0 || head->action < 0 || head->values < 0 || head->constant_bytes < 0) return "a size is negative";
    if (head->obs_count < 1 || head->actions < 1 || head->arena_bytes < 1) return "a size is not positive";
    if ((int64_t)size != (int64_t)sizeof *head + steps * 4 * NQ_WORDS + head->constant_bytes) return "it is cut off";
    if (head->q < 0 || head->q % 4 != 0 || head->q + 4 * (int64_t)head->actions > head->arena_bytes)
        return "the action values lie outside";
    return NULL;
}

Program *nq_program_new(const char *bytes, size_t size, const Kernel *isa, const char **why)
{
    Program *program = calloc(1, sizeof *program);
    *why = "out of memory";
    if (program == NULL) return NULL;
    *why = size < sizeof program->head ? "it is cut off" : NULL;
    if (*why == NULL) {
        memcpy(&program->head, bytes, sizeof program->head);
        *why = read_head(&program->head, size);
    }
    if (*why == NULL) {
        const Head *head = &program->head;
        const int steps = head->trunk + head->action + head->values;
        const char *words = bytes + sizeof *head;
        program->step = calloc((size_t)steps + 1, sizeof *program->step);
        program->constants = aligned((size_t)head->constant_bytes);
        if (program->step == NULL || program->constants == NULL) *why = "out of memory";
        else memcpy(program->constants, words + (size_t)steps * 4 * NQ_WORDS, (size_t)head->constant_bytes);
        for (int i = 0; i < steps && *why == NULL; ++i) {
            int32_t word[NQ_WORDS];
            memcpy(word, words + (size_t)i * sizeof word, sizeof word);
            *why = read_step(&program->step[i], word, program, isa);
            program->work += *why == NULL ? work(&program->step[i]) : 0.0;
            const int decides = i >= head->trunk && i < head->trunk + head->action;
            if (*why == NULL && program->step[i].op == NQ_ARGMAX && !decides) *why = "an ArgMax is out of place";
        }
    }
    if (*why == NULL) return program;
    nq_program_free(program);
    return NULL;
}

void nq_program_free(Program *program)
{
    if (program == NULL) return;
    free(program->step);
    free(program->constants);
    free(program);
}

/* 0, or -1 for an observation that is refused. */
static int trunk(const Program *program, Run *run)
{
    if (program->head.obs_type == NQ_F32 && !nq_finite(run->obs, program->head.obs_count)) return -1;
    const Step *step = program->step, *const end = step + program->head.trunk;
    for (; step < end; ++step) step->kernel(step, run);
    return 0;
}

int nq_program_act(const Program *program, char *arena, const void *obs, const uint8_t *mask)
{
    Run run = {arena, obs, mask, 0};
    if (trunk(program, &run) < 0) return -1;
    const Step *step = program->step + program->head.trunk, *const end = step + program->head.action;
    for (; step < end; ++step) step->kernel(step, &run);
    return run.action;
}

int nq_program_q(const Program *program, char *arena, const void *obs, float *q)
{
    Run run = {arena, obs, NULL, 0};
    if (trunk(program, &run) < 0) return -1;
    const Step *step = program->step + program->head.trunk + program->head.action;
    const Step *const end = step + program->head.values;
    for (; step < end; ++step) step->kernel(step, &run);
    memcpy(q, arena + program->head.q, 4 * (size_t)program->head.actions);
    return 0;
}

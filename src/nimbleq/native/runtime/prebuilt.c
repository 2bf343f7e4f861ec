/* Policies that are programs. Small arenas are on the stack; of large ones those that were used are kept for the next
   decision, so that deciding allocates nothing once as many threads as there are have decided. */
#define PY_SSIZE_T_CLEAN
#include "policy.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "../engine/program.h"

enum { STACK_BYTES = 16384, KEPT = 16 };
#define SLOW 1e6

typedef struct {
    Policy policy;
    Program *program;
    _Atomic(char *) kept[KEPT];
} Prebuilt;

static char *take(Prebuilt *self)
{
    for (int i = 0; i < KEPT; ++i) {
        char *arena = atomic_load_explicit(&self->kept[i], memory_order_relaxed) == NULL ? NULL : atomic_exchange(&self->kept[i], NULL);
        if (arena != NULL) return arena;
    }
    void *arena = NULL;
    return posix_memalign(&arena, 64, (size_t)self->program->head.arena_bytes) == 0 ? arena : NULL;
}

static void give(Prebuilt *self, char *arena)
{
    for (int i = 0; i < KEPT; ++i) {
        char *none = NULL;
        if (atomic_compare_exchange_strong(&self->kept[i], &none, arena)) return;
    }
    free(arena);
}

static int small_act(Policy *policy, const void *obs, const uint8_t *mask)
{
    _Alignas(64) char arena[STACK_BYTES];
    return nq_program_act(((Prebuilt *)policy)->program, arena, obs, mask);
}

static int small_q(Policy *policy, const void *obs, float *q)
{
    _Alignas(64) char arena[STACK_BYTES];
    return nq_program_q(((Prebuilt *)policy)->program, arena, obs, q);
}

static int large_act(Policy *policy, const void *obs, const uint8_t *mask)
{
    Prebuilt *self = (Prebuilt *)policy;
    char *arena = take(self);
    if (arena == NULL) return -2;
    const int action = nq_program_act(self->program, arena, obs, mask);
    give(self, arena);
    return action;
}

static int large_q(Policy *policy, const void *obs, float *q)
{
    Prebuilt *self = (Prebuilt *)policy;
    char *arena = take(self);
    if (arena == NULL) return -2;
    const int status = nq_program_q(self->program, arena, obs, q);
    give(self, arena);
    return status;
}

static void close_program(Policy *policy)
{
    Prebuilt *self = (Prebuilt *)policy;
    for (int i = 0; i < KEPT; ++i) free(atomic_load(&self->kept[i]));
    nq_program_free(self->program);
    PyMem_Free(self);
}

Policy *nq_open_program(const char *bytes, Py_ssize_t size, const char *isa, const Interface *interface)
{
    const Kernel *kernels = nq_kernels(isa);
    if (kernels == NULL) return PyErr_Format(PyExc_ValueError, "this processor has no %s kernels", isa), NULL;
    const char *why;
    Program *program = nq_program_new(bytes, (size_t)size, kernels, &why);
    if (program == NULL) return PyErr_Format(PyExc_ValueError, "the program is not sound: %s", why), NULL;
    const Head *head = &program->head;
    Prebuilt *self = PyMem_Calloc(1, sizeof *self);
    if (self == NULL || head->obs_count != interface->size || (head->obs_type == NQ_U8) != interface->uint8 ||
        head->actions != interface->actions || head->masked != interface->masked) {
        if (self == NULL) PyErr_NoMemory();
        else PyErr_SetString(PyExc_ValueError, "the program is of a policy with other observations, actions or masks");
        PyMem_Free(self);
        nq_program_free(program);
        return NULL;
    }
    const int small = head->arena_bytes <= STACK_BYTES;
    self->policy = (Policy){small ? small_act : large_act, small ? small_q : large_q, close_program, program->work,
                            program->work > SLOW};
    self->program = program;
    return &self->policy;
}

/* What decides: a library made from emitted code, or a program with the kernels of this package. */
#ifndef NQ_RUNTIME_POLICY_H
#define NQ_RUNTIME_POLICY_H

#include <Python.h>
#include <stdint.h>

typedef struct Policy Policy;
struct Policy {
    int (*act)(Policy *, const void *obs, const uint8_t *mask); /* -1: refused */
    int (*q)(Policy *, const void *obs, float *q);              /* -1: refused */
    void (*close)(Policy *);
    double work; /* multiplications of a decision where several threads may decide at once, else 0 */
    int slow;    /* a decision takes so long that letting go of the interpreter's lock pays */
};

/* What the caller will give and take: numbers of an observation, whether they are bytes, actions, masks. */
typedef struct {
    Py_ssize_t size;
    int uint8, actions, masked;
} Interface;

/* New policies; NULL with an error set. */
Policy *nq_open_library(const char *path, const char *name, const Interface *interface);
Policy *nq_open_program(const char *bytes, Py_ssize_t size, const char *isa, const Interface *interface);

#endif

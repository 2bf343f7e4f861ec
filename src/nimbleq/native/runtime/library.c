/* Policies compiled into shared libraries. */
#define PY_SSIZE_T_CLEAN
#include "policy.h"

#include <dlfcn.h>

typedef struct {
    Policy policy;
    void *library;
    int (*act)(const void *);
    int (*act_masked)(const void *, const uint8_t *);
    int (*q)(const void *, float *);
} Library;

static int act(Policy *policy, const void *obs, const uint8_t *mask)
{
    (void)mask;
    return ((Library *)policy)->act(obs);
}

static int act_masked(Policy *policy, const void *obs, const uint8_t *mask)
{
    return ((Library *)policy)->act_masked(obs, mask);
}

static int q(Policy *policy, const void *obs, float *values) { return ((Library *)policy)->q(obs, values); }

static void close_library(Policy *policy)
{
    Library *self = (Library *)policy;
    if (self->library != NULL) dlclose(self->library);
    PyMem_Free(self);
}

Policy *nq_open_library(const char *path, const char *name, const Interface *interface)
{
    Library *self = PyMem_Calloc(1, sizeof *self);
    if (self == NULL) return (Policy *)PyErr_NoMemory();
    self->policy = (Policy){interface->masked ? act_masked : act, q, close_library, 0.0, 0};
    self->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (self->library != NULL) {
        char symbol[128];
        PyOS_snprintf(symbol, sizeof symbol, interface->masked ? "%s_act_masked" : "%s_act", name);
        if (interface->masked) *(void **)&self->act_masked = dlsym(self->library, symbol);
        else *(void **)&self->act = dlsym(self->library, symbol);
        PyOS_snprintf(symbol, sizeof symbol, "%s_q", name);
        *(void **)&self->q = dlsym(self->library, symbol);
    }
    if ((self->act != NULL || self->act_masked != NULL) && self->q != NULL) return &self->policy;
    const char *why = dlerror();
    PyErr_Format(PyExc_OSError, "cannot load %s: %s", path, why ? why : "no such function");
    close_library(&self->policy);
    return NULL;
}

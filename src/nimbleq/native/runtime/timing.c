/* Nanoseconds of single calls, measured inside C: `time_act` and `time_empty` of a Decider. */
#include "decider.h"

#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#if defined(__x86_64__)
#define TICKS() ((uint64_t)__rdtsc())
#else
static uint64_t TICKS(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
#endif

/* Nanoseconds per call; without a decider of the empty loop. */
static PyObject *timed(const Decider *self, const char *data, const uint8_t *mask, npy_intp count, Py_ssize_t calls)
{
    npy_intp dims[1] = {calls};
    PyObject *out = PyArray_SimpleNew(1, dims, NPY_FLOAT64);
    if (out == NULL) return NULL;
    const npy_intp bytes = self == NULL ? 0 : self->size * self->item, flags = mask == NULL ? 0 : self->actions;
    double *ns = (double *)PyArray_DATA((PyArrayObject *)out);
    volatile int sink = 0;
    Policy *const policy = self == NULL ? NULL : self->policy;
    npy_intp next = 0;
    const double start = seconds();
    const uint64_t first = TICKS();
    for (Py_ssize_t i = 0; i < calls; ++i) {
        const char *obs = data + next * bytes;
        const uint8_t *legal = mask == NULL ? NULL : mask + next * flags;
        next = next + 1 == count ? 0 : next + 1;
        const uint64_t before = TICKS();
        if (self != NULL) sink += policy->act(policy, obs, legal);
        const uint64_t after = TICKS();
        ns[i] = (double)(after - before);
    }
    uint64_t last = TICKS();
    double elapsed = seconds() - start;
    while (elapsed < 2e-3) { /* long enough to know the length of a tick */
        last = TICKS();
        elapsed = seconds() - start;
    }
    const double tick = elapsed * 1e9 / (double)(last - first);
    for (Py_ssize_t i = 0; i < calls; ++i) ns[i] *= tick;
    return out;
}

PyObject *decider_time_act(Decider *self, PyObject *args)
{
    PyObject *obs, *mask = NULL;
    Py_ssize_t calls;
    if (!PyArg_ParseTuple(args, "On|O", &obs, &calls, &mask)) return NULL;
    PyArrayObject *array = decider_batch(self, obs);
    if (array == NULL) return NULL;
    PyArrayObject *legal = decider_masks(self, mask, PyArray_DIM(array, 0));
    PyObject *out = NULL;
    if (PyArray_DIM(array, 0) < 1 || calls < 1)
        PyErr_SetString(PyExc_ValueError, "timing needs at least one observation and one call");
    if (!PyErr_Occurred()) {
        const uint8_t *flags = legal == NULL ? NULL : (const uint8_t *)PyArray_DATA(legal);
        out = timed(self, (const char *)PyArray_DATA(array), flags, PyArray_DIM(array, 0), calls);
    }
    Py_DECREF(array);
    Py_XDECREF(legal);
    return out;
}

PyObject *decider_time_empty(Decider *self, PyObject *args)
{
    Py_ssize_t calls;
    (void)self;
    if (!PyArg_ParseTuple(args, "n", &calls)) return NULL;
    if (calls < 1) {
        PyErr_SetString(PyExc_ValueError, "timing needs at least one call");
        return NULL;
    }
    return timed(NULL, "", NULL, 1, calls);
}

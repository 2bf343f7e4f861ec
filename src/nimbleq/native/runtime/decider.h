/* A compiled policy as a Python object, and what its files share. One unit imports the numpy API for all
   (NQ_ARRAY_OWNER). */
#ifndef NQ_RUNTIME_DECIDER_H
#define NQ_RUNTIME_DECIDER_H

#define PY_SSIZE_T_CLEAN
#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL nq_runtime_array_api
#ifndef NQ_ARRAY_OWNER
#define NO_IMPORT_ARRAY
#endif
#include <Python.h>
#include <numpy/arrayobject.h>
#include <stdint.h>

#include "policy.h"

typedef struct {
    PyObject_HEAD
    Policy *policy;
    PyObject *error, *read, *read_mask;
    npy_intp shape[NPY_MAXDIMS];
    npy_intp size;
    int ndim;
    int type_num;
    int item;
    int actions;
    int masked;
    long fallback;
    Py_ssize_t refused;
} Decider;

/* A borrowed pointer to the data when `obs` is ready to use, else NULL (no error set). */
static inline const void *ready(const Decider *self, PyObject *obs, int lead)
{
    if (!PyArray_CheckExact(obs)) return NULL;
    PyArrayObject *array = (PyArrayObject *)obs;
    if (PyArray_TYPE(array) != self->type_num || PyArray_NDIM(array) != self->ndim + lead || !PyArray_ISCARRAY_RO(array))
        return NULL;
    const npy_intp *dims = PyArray_DIMS(array) + lead;
    for (int i = 0; i < self->ndim; ++i)
        if (dims[i] != self->shape[i]) return NULL;
    return PyArray_DATA(array);
}

/* The data of a mask that is ready to use, else NULL (no error set). */
static inline const uint8_t *ready_mask(const Decider *self, PyObject *mask)
{
    if (!PyArray_CheckExact(mask)) return NULL;
    PyArrayObject *array = (PyArrayObject *)mask;
    if (PyArray_TYPE(array) != NPY_BOOL || PyArray_NDIM(array) != 1 || PyArray_DIM(array, 0) != self->actions ||
        !PyArray_ISCARRAY_RO(array))
        return NULL;
    return (const uint8_t *)PyArray_DATA(array);
}

/* batch.c: arguments that hold several observations. */
PyArrayObject *decider_batch(const Decider *self, PyObject *obs);
PyArrayObject *decider_masks(const Decider *self, PyObject *mask, npy_intp count);

/* timing.c */
PyObject *decider_time_act(Decider *self, PyObject *args);
PyObject *decider_time_empty(Decider *self, PyObject *args);

#endif

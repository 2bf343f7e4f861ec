/* Arguments as arrays, checked. One translation unit imports the numpy API for all (NQ_ARRAY_OWNER). */
#ifndef NQ_REPLAY_ARRAYS_H
#define NQ_REPLAY_ARRAYS_H

#define PY_SSIZE_T_CLEAN
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL nq_replay_array_api
#ifndef NQ_ARRAY_OWNER
#define NO_IMPORT_ARRAY
#endif
#include <Python.h>
#include <numpy/arrayobject.h>
#include <stdbool.h>

/* A C-contiguous array of `type` (borrowing the memory when it is one already), or NULL. dims 0: any number. */
static inline PyArrayObject *array_of(PyObject *object, int type, int dims)
{
    return (PyArrayObject *)PyArray_FROMANY(object, type, dims, dims, NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST);
}

extern PyType_Spec tree_spec, frames_spec;
PyObject *frames_share(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *rows_remember(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *rows_gather(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *bits_pack(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *bits_unpack(PyObject *module, PyObject *const *args, Py_ssize_t count);
void bits_begin(void);

#endif

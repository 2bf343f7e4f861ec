/* What the functions of `nimbleq.native._envs` take. */
#ifndef NIMBLEQ_ENVS_ARRAYS_H
#define NIMBLEQ_ENVS_ARRAYS_H
#define PY_SSIZE_T_CLEAN
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL nq_envs_array_api
#ifndef NQ_ENVS_MODULE
#define NO_IMPORT_ARRAY
#endif
#include <Python.h>
#include <numpy/arrayobject.h>
#include <stdbool.h>

/* A writable array as it has to be, or NULL with an error set. */
static inline void *data_of(PyObject *object, int type, npy_intp size)
{
    PyArrayObject *array = (PyArrayObject *)object;
    if (!PyArray_Check(object) || PyArray_TYPE(array) != type || !PyArray_ISCARRAY(array) ||
        PyArray_SIZE(array) != size) {
        PyErr_SetString(PyExc_ValueError, "an array has another type, size or layout");
        return NULL;
    }
    return PyArray_DATA(array);
}

PyObject *cartpole_reset(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *cartpole_step(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *lunarlander_step(PyObject *module, PyObject *const *args, Py_ssize_t count);
PyObject *linear_greedy(PyObject *module, PyObject *const *args, Py_ssize_t count);

#endif

/* Several observations and their masks, as arrays of what the policy reads. */
#include "decider.h"

/* A new reference to a batch, converted. Floats are rounded to float32; bytes are never made from wider numbers. */
PyArrayObject *decider_batch(const Decider *self, PyObject *obs)
{
    const int flags = NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_ENSUREARRAY |
                      (self->type_num == NPY_FLOAT32 ? NPY_ARRAY_FORCECAST : 0);
    PyObject *array = PyArray_FROM_OTF(obs, self->type_num, flags);
    if (array == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_ValueError)) return NULL;
        PyErr_Clear();
        PyErr_Format(self->error, "the observations do not convert to %s", self->item == 4 ? "float32" : "uint8");
        return NULL;
    }
    if (ready(self, array, 1) == NULL) {
        PyObject *got = PyObject_GetAttrString(array, "shape");
        PyErr_Format(self->error, "the observations have shape %S; the policy takes %d numbers in %d axes after the batch axis",
                     got, (int)self->size, self->ndim);
        Py_XDECREF(got);
        Py_DECREF(array);
        return NULL;
    }
    return (PyArrayObject *)array;
}

/* bool[N, A], new, for a masked policy; NULL and no error where there is none to be had. */
PyArrayObject *decider_masks(const Decider *self, PyObject *mask, npy_intp count)
{
    if (self->masked != (mask != NULL && mask != Py_None)) {
        PyErr_SetString(self->error, self->masked ? "this policy needs the masks of the legal actions"
                                                  : "this policy takes no mask");
        return NULL;
    }
    if (!self->masked) return NULL;
    PyObject *array = PyArray_FROM_OTF(mask, NPY_BOOL, NPY_ARRAY_CARRAY_RO | NPY_ARRAY_ENSUREARRAY | NPY_ARRAY_FORCECAST);
    if (array == NULL) return NULL;
    PyArrayObject *made = (PyArrayObject *)array;
    if (PyArray_NDIM(made) != 2 || PyArray_DIM(made, 0) != count || PyArray_DIM(made, 1) != self->actions) {
        PyErr_SetString(self->error, "the masks need one flag per observation and action");
        Py_CLEAR(array);
    }
    return (PyArrayObject *)array;
}

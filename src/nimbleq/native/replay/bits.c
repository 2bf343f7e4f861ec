/* Values that are 0 or one other number, eight to a byte: the first is the lowest bit, the last byte ends with zeros. */
#include <string.h>

#include "arrays.h"

enum { BYTES = 256, EACH = 8 };

/* pack(values uint8 or float32 [B, n], top) -> uint8[B, (n + 7) / 8]; ValueError: one is neither 0 nor top. */
PyObject *bits_pack(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "pack(values, top)");
        return NULL;
    }
    const double given = PyFloat_AsDouble(args[1]);
    if (PyErr_Occurred())
        return NULL;
    const int whole = PyArray_Check(args[0]) && PyArray_TYPE((PyArrayObject *)args[0]) == NPY_UINT8;
    PyArrayObject *values = array_of(args[0], whole ? NPY_UINT8 : NPY_FLOAT32, 2);
    if (values == NULL)
        return NULL;
    const npy_intp rows = PyArray_DIM(values, 0), n = PyArray_DIM(values, 1);
    npy_intp shape[] = {rows, (n + EACH - 1) / EACH};
    PyArrayObject *packed = (PyArrayObject *)PyArray_ZEROS(2, shape, NPY_UINT8, 0);
    if (packed == NULL) {
        Py_DECREF(values);
        return NULL;
    }
    npy_uint8 *to = PyArray_DATA(packed);
    int wrong = 0;
#define PACK(T)                                                                   \
    {                                                                             \
        const T *from = PyArray_DATA(values), top = (T)given;                     \
        for (npy_intp row = 0; row < rows; row++, from += n, to += shape[1])      \
            for (npy_intp i = 0; i < n; i++) {                                    \
                const int set = from[i] != 0;                                     \
                wrong |= set & (from[i] != top);                                  \
                to[i / EACH] |= (npy_uint8)(set << i % EACH);                     \
            }                                                                     \
    }
    if (whole)
        PACK(npy_uint8)
    else
        PACK(float)
#undef PACK
    Py_DECREF(values);
    if (wrong) {
        Py_DECREF(packed);
        PyErr_Format(PyExc_ValueError, "a value is neither 0 nor %R", args[1]);
        return NULL;
    }
    return (PyObject *)packed;
}

static npy_uint8 bytes_of[BYTES][EACH]; /* 0 or 255 */
static float floats_of[BYTES][EACH];    /* 0 or 1 */

void bits_begin(void)
{
    for (int byte = 0; byte < BYTES; byte++)
        for (int i = 0; i < EACH; i++) {
            bytes_of[byte][i] = byte >> i & 1 ? 255 : 0;
            floats_of[byte][i] = (float)(byte >> i & 1);
        }
}

/* unpack(packed uint8[B, P], n, whole) -> [B, n] of uint8 (0 or 255) where `whole` is not 0, else of float32 (0 or 1). */
PyObject *bits_unpack(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "unpack(packed, n, whole)");
        return NULL;
    }
    const Py_ssize_t n = PyLong_AsSsize_t(args[1]);
    const int whole = PyObject_IsTrue(args[2]);
    if (PyErr_Occurred())
        return NULL;
    PyArrayObject *packed = array_of(args[0], NPY_UINT8, 2);
    if (packed == NULL)
        return NULL;
    const npy_intp rows = PyArray_DIM(packed, 0), width = PyArray_DIM(packed, 1);
    if (n < 0 || (n + EACH - 1) / EACH != width) {
        PyErr_SetString(PyExc_ValueError, "unpack: so many values take another number of bytes");
        Py_DECREF(packed);
        return NULL;
    }
    npy_intp shape[] = {rows, n};
    PyArrayObject *values = (PyArrayObject *)PyArray_SimpleNew(2, shape, whole ? NPY_UINT8 : NPY_FLOAT32);
    if (values != NULL) {
        const npy_uint8 *from = PyArray_DATA(packed);
        const size_t rest = (size_t)(n % EACH);
#define UNPACK(T, table)                                                          \
    {                                                                             \
        T *to = PyArray_DATA(values);                                             \
        for (npy_intp row = 0; row < rows; row++) {                               \
            for (npy_intp i = 0; i < n / EACH; i++, from++, to += EACH)           \
                memcpy(to, table[*from], sizeof table[0]);                        \
            if (rest != 0)                                                        \
                memcpy(to, table[*from++], rest * sizeof(T));                     \
            to += rest;                                                           \
        }                                                                         \
    }
        if (whole)
            UNPACK(npy_uint8, bytes_of)
        else
            UNPACK(float, floats_of)
#undef UNPACK
    }
    Py_DECREF(packed);
    return (PyObject *)values;
}

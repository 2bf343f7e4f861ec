/* Many linear policies of integers, each of which acts in episodes of its own. */
#include "arrays.h"
#include <math.h>

enum { TOP = 127, BOTTOM = -128 }; /* of an observation's levels: int8 */

/* The first action of the largest sum. */
static npy_int64 greedy(const double *weight, const double *bias, const double *scale, npy_intp actions,
                        npy_intp features, const float *obs, double *levels)
{
    for (npy_intp f = 0; f < features; f++) {
        const double level = floor((double)obs[f] * scale[f] + 0.5);
        levels[f] = level > TOP ? TOP : level < BOTTOM ? BOTTOM : level;
    }
    npy_int64 best = 0;
    double most = -INFINITY;
    for (npy_intp a = 0; a < actions; a++) {
        double sum = bias[a];
        for (npy_intp f = 0; f < features; f++)
            sum += weight[a * features + f] * levels[f];
        if (sum > most)
            most = sum, best = a;
    }
    return best;
}

/* linear_greedy(weight float64[P, A, F], bias float64[P, A], scale float64[P, F], each, episode int64[B],
 * obs float32[B, F], action int64[B]): fills the last, the policy of an episode being that of number episode / each.
 * All sums are of integers, so their order does not matter. */
PyObject *linear_greedy(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 7 || !PyArray_Check(args[1]) || !PyArray_Check(args[2]) || !PyArray_Check(args[4]) ||
        PyArray_NDIM((PyArrayObject *)args[1]) != 2 || PyArray_NDIM((PyArrayObject *)args[2]) != 2) {
        PyErr_SetString(PyExc_TypeError, "linear_greedy takes three arrays, a number and three arrays");
        return NULL;
    }
    const npy_intp policies = PyArray_DIM((PyArrayObject *)args[1], 0), rows = PyArray_SIZE((PyArrayObject *)args[4]);
    const npy_intp actions = PyArray_DIM((PyArrayObject *)args[1], 1);
    const npy_intp features = PyArray_DIM((PyArrayObject *)args[2], 1);
    const double *weight = data_of(args[0], NPY_FLOAT64, policies * actions * features);
    const double *bias = data_of(args[1], NPY_FLOAT64, policies * actions);
    const double *scale = data_of(args[2], NPY_FLOAT64, policies * features);
    const npy_int64 each = PyLong_AsLongLong(args[3]), *episode = data_of(args[4], NPY_INT64, rows);
    const float *obs = data_of(args[5], NPY_FLOAT32, rows * features);
    npy_int64 *action = data_of(args[6], NPY_INT64, rows);
    if (PyErr_Occurred())
        return NULL;
    for (npy_intp row = 0; row < rows; row++)
        if (each < 1 || episode[row] < 0 || episode[row] / each >= policies) {
            PyErr_SetString(PyExc_ValueError, "linear_greedy: no policy plays that episode");
            return NULL;
        }
    double *levels = PyMem_New(double, features + 1);
    if (!levels)
        return PyErr_NoMemory();
    for (npy_intp row = 0; row < rows; row++) {
        const npy_int64 who = episode[row] / each;
        action[row] = greedy(weight + who * actions * features, bias + who * actions, scale + who * features, actions,
                             features, obs + row * features, levels);
    }
    PyMem_Free(levels);
    Py_RETURN_NONE;
}

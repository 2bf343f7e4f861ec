/* Transitions of vectors: closing n-step windows into the ring, and gathering a batch from it, in one call each.
 *
 * All state lies in the arrays of Python (nimbleq.rl.replay), which says what they mean; here they are rows of bytes.
 */
#include <string.h>

#include "arrays.h"

/* One field of every transition, as rows of `bytes`. */
typedef struct {
    char *data;
    npy_intp rows;
    size_t bytes;
} Field;

/* A C-contiguous array as rows along its first `outer` axes. */
static bool field_of(PyObject *object, int outer, bool written, Field *field)
{
    PyArrayObject *array = (PyArrayObject *)object;
    if (!PyArray_Check(object) || !PyArray_ISCARRAY_RO(array) || PyArray_NDIM(array) < outer ||
        (written && !PyArray_ISWRITEABLE(array))) {
        PyErr_SetString(PyExc_ValueError, "replay: a field is not a contiguous array, or not writable");
        return false;
    }
    field->rows = 1;
    for (int axis = 0; axis < outer; axis++)
        field->rows *= PyArray_DIM(array, axis);
    size_t bytes = (size_t)PyArray_ITEMSIZE(array);
    for (int axis = outer; axis < PyArray_NDIM(array); axis++)
        bytes *= (size_t)PyArray_DIM(array, axis);
    field->data = PyArray_DATA(array);
    field->bytes = bytes;
    return true;
}

/* Fields of equal numbers of rows out of a tuple of `count` arrays. */
static bool fields_of(PyObject *tuple, Py_ssize_t count, int outer, bool written, Field *fields)
{
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != count) {
        PyErr_Format(PyExc_TypeError, "replay: %zd fields are expected", count);
        return false;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (!field_of(PyTuple_GET_ITEM(tuple, i), outer, written, &fields[i]))
            return false;
    return true;
}

static void copy_row(const Field *to, npy_intp row, const Field *from, npy_intp source)
{
    memcpy(to->data + (size_t)row * to->bytes, from->data + (size_t)source * from->bytes, to->bytes);
}

enum { W_OBS, W_ACTION, W_MASK, W_REWARD, WINDOWS };                                           /* [n, N, ...] */
enum { S_OBS, S_ACTION, S_MASK, S_REWARD, S_TERMINATED, S_TRUNCATED, S_NEXT, S_NEXT_MASK, STEPS }; /* [N, ...] */
enum { R_OBS, R_ACTION, R_REWARD, R_DISCOUNT, R_NEXT, R_NEXT_MASK, R_MASK, RING };             /* [capacity, ...] */

static bool agree(const Field *windows, const Field *step, const Field *ring, const Field *open, const Field *powers)
{
    const npy_intp envs = step[S_OBS].rows, n = powers->rows - 1;
    bool ok = n >= 1 && open->rows == envs && open->bytes == sizeof(npy_int64) && powers->bytes == sizeof(float);
    for (int i = 0; i < WINDOWS; i++)
        ok = ok && windows[i].rows == n * envs;
    for (int i = 0; i < STEPS; i++)
        ok = ok && step[i].rows == envs;
    for (int i = 0; i < RING; i++)
        ok = ok && ring[i].rows == ring[0].rows && ring[i].rows >= 1;
    ok = ok && windows[W_OBS].bytes == step[S_OBS].bytes && ring[R_OBS].bytes == step[S_OBS].bytes;
    ok = ok && ring[R_NEXT].bytes == step[S_NEXT].bytes && windows[W_ACTION].bytes == step[S_ACTION].bytes;
    ok = ok && ring[R_ACTION].bytes == step[S_ACTION].bytes && ring[R_NEXT_MASK].bytes == step[S_NEXT_MASK].bytes;
    ok = ok && windows[W_MASK].bytes == step[S_MASK].bytes && ring[R_MASK].bytes == step[S_MASK].bytes;
    ok = ok && windows[W_REWARD].bytes == sizeof(float) && step[S_REWARD].bytes == sizeof(float);
    ok = ok && ring[R_REWARD].bytes == sizeof(float) && ring[R_DISCOUNT].bytes == sizeof(float);
    ok = ok && step[S_TERMINATED].bytes == 1 && step[S_TRUNCATED].bytes == 1;
    if (!ok)
        PyErr_SetString(PyExc_ValueError, "replay: fields disagree in their sizes");
    return ok;
}

/* The arrays of a step, contiguous: a new tuple. */
static PyObject *contiguous(PyObject *tuple)
{
    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "replay: a step is a tuple of arrays");
        return NULL;
    }
    PyObject *made = PyTuple_New(PyTuple_GET_SIZE(tuple));
    for (Py_ssize_t i = 0; made != NULL && i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *array = PyArray_FROM_OF(PyTuple_GET_ITEM(tuple, i), NPY_ARRAY_CARRAY_RO);
        if (array == NULL)
            Py_CLEAR(made);
        else
            PyTuple_SET_ITEM(made, i, array);
    }
    return made;
}

static PyObject *remember(PyObject *const *args, PyObject *step);

/* remember(windows, open, step, powers, ring, time, added) -> transitions that were added.
 *
 * As NStepWindows.push followed by storing what it closed; powers are gamma^0 ... gamma^n. */
PyObject *rows_remember(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 7) {
        PyErr_SetString(PyExc_TypeError, "remember(windows, open, step, powers, ring, time, added)");
        return NULL;
    }
    PyObject *step = contiguous(args[2]);
    PyObject *added = step == NULL ? NULL : remember(args, step);
    Py_XDECREF(step);
    return added;
}

static PyObject *remember(PyObject *const *args, PyObject *stepped)
{
    Field windows[WINDOWS], step[STEPS], ring[RING], open_field, powers;
    if (!fields_of(args[0], WINDOWS, 2, true, windows) || !field_of(args[1], 1, true, &open_field) ||
        !fields_of(stepped, STEPS, 1, false, step) || !field_of(args[3], 1, false, &powers) ||
        !fields_of(args[4], RING, 1, true, ring) || !agree(windows, step, ring, &open_field, &powers))
        return NULL;
    const long long time = PyLong_AsLongLong(args[5]), before = PyLong_AsLongLong(args[6]);
    if ((time < 0 || before < 0) && !PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "replay: time and added are counts");
    if (PyErr_Occurred())
        return NULL;

    const npy_intp envs = step[S_OBS].rows, n = powers.rows - 1, capacity = ring[0].rows;
    const float *power = (const float *)powers.data, *reward = (const float *)step[S_REWARD].data;
    const npy_bool *terminated = (const npy_bool *)step[S_TERMINATED].data;
    const npy_bool *truncated = (const npy_bool *)step[S_TRUNCATED].data;
    float *sums = (float *)windows[W_REWARD].data;
    npy_int64 *open = (npy_int64 *)open_field.data;
    long long added = before;

    const npy_intp newest = (npy_intp)(time % n) * envs;
    for (npy_intp e = 0; e < envs; e++) {
        copy_row(&windows[W_OBS], newest + e, &step[S_OBS], e);
        copy_row(&windows[W_ACTION], newest + e, &step[S_ACTION], e);
        copy_row(&windows[W_MASK], newest + e, &step[S_MASK], e);
        sums[newest + e] = 0.0f;
        open[e]++;
    }
    for (npy_intp age = n - 1; age >= 0; age--) {
        const npy_intp row = (npy_intp)((time + n - age) % n) * envs;
        for (npy_intp e = 0; e < envs; e++) {
            const float gain = power[age] * reward[e];
            sums[row + e] += gain;
            const bool ended = terminated[e] || truncated[e];
            if (open[e] <= age || !(ended || age == n - 1))
                continue;
            const npy_intp slot = (npy_intp)(added++ % capacity);
            copy_row(&ring[R_OBS], slot, &windows[W_OBS], row + e);
            copy_row(&ring[R_ACTION], slot, &windows[W_ACTION], row + e);
            copy_row(&ring[R_MASK], slot, &windows[W_MASK], row + e);
            copy_row(&ring[R_NEXT], slot, &step[S_NEXT], e);
            copy_row(&ring[R_NEXT_MASK], slot, &step[S_NEXT_MASK], e);
            ((float *)ring[R_REWARD].data)[slot] = sums[row + e];
            ((float *)ring[R_DISCOUNT].data)[slot] = terminated[e] ? 0.0f : power[age + 1];
        }
    }
    for (npy_intp e = 0; e < envs; e++)
        open[e] = terminated[e] || truncated[e] ? 0 : open[e] < n - 1 ? open[e] : n - 1;
    return PyLong_FromLongLong(added - before);
}

/* gather(fields, index int64[B]) -> a tuple of new arrays, the rows of each field. */
PyObject *rows_gather(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 2 || !PyTuple_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "gather(fields, index)");
        return NULL;
    }
    const Py_ssize_t fields = PyTuple_GET_SIZE(args[0]);
    PyArrayObject *index = array_of(args[1], NPY_INT64, 1);
    PyObject *out = index == NULL ? NULL : PyTuple_New(fields);
    if (out == NULL)
        goto failed;
    const npy_int64 *row = PyArray_DATA(index);
    const npy_intp rows = PyArray_SIZE(index);
    for (Py_ssize_t i = 0; i < fields; i++) {
        Field from, to;
        PyArrayObject *source = (PyArrayObject *)PyTuple_GET_ITEM(args[0], i);
        if (!field_of((PyObject *)source, 1, false, &from))
            goto failed; /* it was no array, perhaps */
        npy_intp shape[NPY_MAXDIMS];
        memcpy(shape, PyArray_DIMS(source), (size_t)PyArray_NDIM(source) * sizeof *shape);
        shape[0] = rows;
        PyObject *made = PyArray_SimpleNew(PyArray_NDIM(source), shape, PyArray_TYPE(source));
        if (made == NULL)
            goto failed;
        PyTuple_SET_ITEM(out, i, made);
        if (!field_of(made, 1, true, &to))
            goto failed;
        for (npy_intp b = 0; b < rows; b++) {
            if (row[b] < 0 || row[b] >= from.rows) {
                PyErr_SetString(PyExc_IndexError, "replay: there is no such transition");
                goto failed;
            }
            copy_row(&to, b, &from, row[b]);
        }
    }
    Py_DECREF(index);
    return out;
failed:
    Py_XDECREF(index);
    Py_XDECREF(out);
    return NULL;
}

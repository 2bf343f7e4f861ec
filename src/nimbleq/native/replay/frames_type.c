/* Python type `nimbleq.native._replay.Frames`; what its methods promise stands at PlainFrames in nimbleq/rl/replay/shared_frames.py. */
#include "arrays.h"

#include "dump.h"
#include "frames.h"

typedef struct {
    PyObject_HEAD
    Frames frames;
} FramesObject;

static PyObject *frames_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pixels", "compress", NULL};
    Py_ssize_t pixels;
    int compress;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "np", names, &pixels, &compress))
        return NULL;
    if (pixels < 1 || pixels > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "a plane has at least 1 pixel");
        return NULL;
    }
    FramesObject *self = (FramesObject *)type->tp_alloc(type, 0);
    if (self != NULL && !frames_create(&self->frames, (size_t)pixels, compress)) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void frames_dealloc(FramesObject *self)
{
    frames_free(&self->frames);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* Numbers of planes that are all there, or NULL. dims 0: any number of dimensions. */
static PyArrayObject *checked_ids(const FramesObject *self, PyObject *object, int dims)
{
    PyArrayObject *ids = array_of(object, NPY_INT32, dims);
    if (ids == NULL)
        return NULL;
    const int32_t *id = PyArray_DATA(ids);
    for (npy_intp i = 0; i < PyArray_SIZE(ids); i++)
        if (!frames_has(&self->frames, id[i])) {
            PyErr_Format(PyExc_IndexError, "there is no plane %d", (int)id[i]);
            Py_DECREF(ids);
            return NULL;
        }
    return ids;
}

static PyObject *frames_put_method(FramesObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "put(planes, near)");
        return NULL;
    }
    PyArrayObject *planes = array_of(args[0], NPY_UINT8, 2);
    PyArrayObject *near = planes == NULL ? NULL : array_of(args[1], NPY_INT32, 1);
    const size_t pixels = self->frames.pixels;
    PyArrayObject *ids = NULL;
    if (near != NULL) {
        if ((size_t)PyArray_DIM(planes, 1) != pixels || PyArray_DIM(near, 0) != PyArray_DIM(planes, 0))
            PyErr_Format(PyExc_ValueError, "a plane has %zu pixels and one neighbour", pixels);
        else
            ids = (PyArrayObject *)PyArray_SimpleNew(1, PyArray_DIMS(planes), NPY_INT32);
    }
    for (npy_intp i = 0; ids != NULL && i < PyArray_DIM(planes, 0); i++) {
        const int32_t hint = ((const int32_t *)PyArray_DATA(near))[i];
        const int32_t id = frames_put(&self->frames, (const uint8_t *)PyArray_DATA(planes) + (size_t)i * pixels,
                                      frames_has(&self->frames, hint) ? hint : WHOLE);
        if (id < 0) {
            Py_CLEAR(ids);
            PyErr_NoMemory();
        } else {
            ((int32_t *)PyArray_DATA(ids))[i] = id;
        }
    }
    Py_XDECREF(planes);
    Py_XDECREF(near);
    return (PyObject *)ids;
}

/* Reads the planes of one row. Those that `seen` or the row itself had before are copied, which is faster. */
static void read_row(const Frames *frames, const int32_t *id, size_t count, uint8_t *out, const int32_t *seen,
                     size_t seen_count, const uint8_t *seen_out)
{
    const size_t pixels = frames->pixels;
    for (size_t k = 0; k < count; k++) {
        const uint8_t *copy = NULL;
        for (size_t j = 0; j < seen_count && copy == NULL; j++)
            copy = seen[j] == id[k] ? seen_out + j * pixels : NULL;
        for (size_t j = 0; j < k && copy == NULL; j++)
            copy = id[j] == id[k] ? out + j * pixels : NULL;
        if (copy != NULL)
            memcpy(out + k * pixels, copy, pixels);
        else
            frames_read(frames, id[k], out + k * pixels);
    }
}

/* Asks for the first bytes of the planes of a row that will be read soon. */
static void prefetch_row(const Frames *frames, const int32_t *id, size_t count)
{
    for (size_t k = 0; k < count; k++)
        for (size_t byte = 0; byte < 512 && byte < frames->length[id[k]]; byte += 64)
            __builtin_prefetch(frames->code[id[k]] + byte);
}

static PyArrayObject *empty_planes(const FramesObject *self, PyArrayObject *ids)
{
    const npy_intp shape[3] = {PyArray_DIM(ids, 0), PyArray_DIM(ids, 1), (npy_intp)self->frames.pixels};
    return (PyArrayObject *)PyArray_SimpleNew(3, shape, NPY_UINT8);
}

static PyObject *frames_get(FramesObject *self, PyObject *object)
{
    PyArrayObject *ids = checked_ids(self, object, 2);
    if (ids == NULL)
        return NULL;
    PyArrayObject *planes = empty_planes(self, ids);
    const size_t row = (size_t)PyArray_DIM(ids, 1);
    for (npy_intp b = 0; planes != NULL && b < PyArray_DIM(ids, 0); b++)
        read_row(&self->frames, (const int32_t *)PyArray_DATA(ids) + (size_t)b * row, row,
                 (uint8_t *)PyArray_DATA(planes) + (size_t)b * row * self->frames.pixels, NULL, 0, NULL);
    Py_DECREF(ids);
    return (PyObject *)planes;
}

static PyObject *frames_get_pairs(FramesObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "get_pairs(obs_ids, next_ids)");
        return NULL;
    }
    PyArrayObject *first = checked_ids(self, args[0], 2);
    PyArrayObject *second = first == NULL ? NULL : checked_ids(self, args[1], 2);
    PyArrayObject *obs = NULL, *next = NULL;
    if (second != NULL && !PyArray_SAMESHAPE(first, second)) {
        PyErr_SetString(PyExc_ValueError, "obs_ids and next_ids have one shape");
    } else if (second != NULL) {
        obs = empty_planes(self, first);
        next = empty_planes(self, second);
    }
    if (obs != NULL && next != NULL) {
        const size_t rows = (size_t)PyArray_DIM(first, 0), row = (size_t)PyArray_DIM(first, 1);
        const size_t bytes = row * self->frames.pixels;
        for (size_t b = 0; b < rows; b++) {
            const int32_t *a = (const int32_t *)PyArray_DATA(first) + b * row;
            const int32_t *z = (const int32_t *)PyArray_DATA(second) + b * row;
            uint8_t *obs_out = (uint8_t *)PyArray_DATA(obs) + b * bytes;
            if (b + 1 < rows) {
                prefetch_row(&self->frames, a + row, row);
                prefetch_row(&self->frames, z + row, row);
            }
            read_row(&self->frames, a, row, obs_out, NULL, 0, NULL);
            read_row(&self->frames, z, row, (uint8_t *)PyArray_DATA(next) + b * bytes, a, row, obs_out);
        }
    }
    PyObject *pair = obs != NULL && next != NULL ? PyTuple_Pack(2, obs, next) : NULL;
    Py_XDECREF(first);
    Py_XDECREF(second);
    Py_XDECREF(obs);
    Py_XDECREF(next);
    return pair;
}

static PyObject *frames_hold_method(FramesObject *self, PyObject *object)
{
    PyArrayObject *ids = checked_ids(self, object, 0);
    if (ids == NULL)
        return NULL;
    for (npy_intp i = 0; i < PyArray_SIZE(ids); i++)
        self->frames.references[((const int32_t *)PyArray_DATA(ids))[i]]++;
    Py_DECREF(ids);
    Py_RETURN_NONE;
}

static PyObject *frames_release_method(FramesObject *self, PyObject *object)
{
    PyArrayObject *ids = checked_ids(self, object, 0);
    if (ids == NULL)
        return NULL;
    bool ok = true;
    for (npy_intp i = 0; i < PyArray_SIZE(ids) && ok; i++) {
        const int32_t id = ((const int32_t *)PyArray_DATA(ids))[i];
        ok = frames_has(&self->frames, id); /* one call may name a plane more often than it is held */
        if (ok)
            frames_release(&self->frames, id);
    }
    Py_DECREF(ids);
    if (!ok) {
        PyErr_SetString(PyExc_IndexError, "a plane was released more often than it was held");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *table(const void *values, int type, size_t count, size_t size)
{
    const npy_intp shape[1] = {(npy_intp)count};
    PyObject *array = PyArray_SimpleNew(1, shape, type);
    if (array != NULL && count > 0)
        memcpy(PyArray_DATA((PyArrayObject *)array), values, count * size);
    return array;
}

/* A tuple of `count` parts, which are let go; NULL when one is missing. */
static PyObject *tuple_of(PyObject **part, Py_ssize_t count)
{
    PyObject *tuple = PyTuple_New(count);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (part[i] == NULL)
            Py_CLEAR(tuple);
        if (tuple != NULL)
            PyTuple_SET_ITEM(tuple, i, part[i]);
        else
            Py_XDECREF(part[i]);
    }
    return tuple;
}

static PyObject *frames_tables(FramesObject *self, PyObject *Py_UNUSED(none))
{
    const Frames *frames = &self->frames;
    PyObject *part[] = {
        table(frames->references, NPY_INT32, frames->count, sizeof *frames->references),
        table(frames->spare, NPY_INT32, frames->spare_count, sizeof *frames->spare),
    };
    return tuple_of(part, 2);
}

static PyObject *frames_dump(FramesObject *self, PyObject *object)
{
    PyArrayObject *ids = checked_ids(self, object, 1);
    if (ids == NULL)
        return NULL;
    const npy_intp count = PyArray_SIZE(ids);
    PyObject *part[] = {NULL, PyArray_SimpleNew(1, &count, NPY_UINT32), PyArray_SimpleNew(1, &count, NPY_INT32)};
    if (part[1] != NULL && part[2] != NULL)
        part[0] = codes_of(&self->frames, PyArray_DATA(ids), (size_t)count, PyArray_DATA((PyArrayObject *)part[1]),
                           PyArray_DATA((PyArrayObject *)part[2]));
    Py_DECREF(ids);
    return tuple_of(part, 3);
}

static PyObject *none_or_error(Loaded loaded)
{
    if (loaded == NO_MEMORY)
        return PyErr_NoMemory();
    if (loaded == UNSOUND) {
        PyErr_SetString(PyExc_ValueError, "the parts contradict each other");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *frames_restore_method(FramesObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "restore(references, spare)");
        return NULL;
    }
    PyArrayObject *references = array_of(args[0], NPY_INT32, 1);
    PyArrayObject *spare = references == NULL ? NULL : array_of(args[1], NPY_INT32, 1);
    PyObject *result = NULL;
    if (spare != NULL)
        result = none_or_error(frames_restore(&self->frames, PyArray_DATA(references), (size_t)PyArray_SIZE(references),
                                              PyArray_DATA(spare), (size_t)PyArray_SIZE(spare)));
    Py_XDECREF(references);
    Py_XDECREF(spare);
    return result;
}

static PyObject *frames_place_method(FramesObject *self, PyObject *const *args, Py_ssize_t count)
{
    enum { IDS, CODES, LENGTH, KEY, PARTS };
    static const int types[PARTS] = {NPY_INT32, NPY_UINT8, NPY_UINT32, NPY_INT32};
    if (count != PARTS) {
        PyErr_SetString(PyExc_TypeError, "place(ids, codes, length, key)");
        return NULL;
    }
    PyArrayObject *in[PARTS] = {NULL};
    bool ok = true;
    for (int i = 0; i < PARTS && ok; i++)
        ok = (in[i] = array_of(args[i], types[i], 1)) != NULL;
    PyObject *result = NULL;
    if (ok) {
        const npy_intp planes = PyArray_SIZE(in[IDS]);
        const bool fits = PyArray_SIZE(in[LENGTH]) == planes && PyArray_SIZE(in[KEY]) == planes;
        result = none_or_error(!fits ? UNSOUND
                                     : frames_place(&self->frames, PyArray_DATA(in[IDS]), (size_t)planes,
                                                    PyArray_DATA(in[CODES]), (size_t)PyArray_SIZE(in[CODES]),
                                                    PyArray_DATA(in[LENGTH]), PyArray_DATA(in[KEY])));
    }
    for (int i = 0; i < PARTS; i++)
        Py_XDECREF(in[i]);
    return result;
}

static PyObject *frames_settle_method(FramesObject *self, PyObject *Py_UNUSED(none))
{
    const Loaded loaded = frames_settle(&self->frames);
    if (loaded != LOADED)
        frames_clear(&self->frames);
    return none_or_error(loaded);
}

/* Which plane of `old[N, C, P]`, or which earlier one of `new[N, C, P]` (C + its place), equals each plane of `new`. */
PyObject *frames_share(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    PyArrayObject *new = count == 2 ? array_of(args[0], NPY_UINT8, 3) : NULL;
    PyArrayObject *old = new == NULL ? NULL : array_of(args[1], NPY_UINT8, 3);
    PyObject *source = NULL;
    if (old != NULL && PyArray_SAMESHAPE(new, old))
        source = PyArray_SimpleNew(2, PyArray_DIMS(new), NPY_INT32);
    if (source != NULL) {
        const size_t envs = (size_t)PyArray_DIM(new, 0), planes = (size_t)PyArray_DIM(new, 1);
        const size_t pixels = (size_t)PyArray_DIM(new, 2);
        const uint8_t *newer = PyArray_DATA(new), *older = PyArray_DATA(old);
        int32_t *out = PyArray_DATA((PyArrayObject *)source);
        for (size_t n = 0; n < envs; n++, newer += planes * pixels, older += planes * pixels)
            for (size_t k = 0; k < planes; k++) {
                size_t j = 0;
                while (j < planes && memcmp(newer + k * pixels, older + j * pixels, pixels) != 0)
                    j++;
                while (j >= planes && j < planes + k &&
                       memcmp(newer + k * pixels, newer + (j - planes) * pixels, pixels) != 0)
                    j++;
                out[n * planes + k] = j < planes + k ? (int32_t)j : -1;
            }
    } else if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "share(new, old): two arrays of one shape [N, C, P]");
    }
    Py_XDECREF(new);
    Py_XDECREF(old);
    return source;
}

static PyMethodDef methods[] = {
    {"put", (PyCFunction)(void (*)(void))frames_put_method, METH_FASTCALL, "Remember planes, each with one reference; their numbers."},
    {"get", (PyCFunction)frames_get, METH_O, "Planes by number."},
    {"get_pairs", (PyCFunction)(void (*)(void))frames_get_pairs, METH_FASTCALL, "Planes of two arrays of numbers."},
    {"hold", (PyCFunction)frames_hold_method, METH_O, "One more reference for each number."},
    {"release", (PyCFunction)frames_release_method, METH_O, "One reference less; forget planes without any."},
    {"tables", (PyCFunction)frames_tables, METH_NOARGS, "References by number, and the numbers that are free."},
    {"dump", (PyCFunction)frames_dump, METH_O, "Codes, their lengths and keys of some planes."},
    {"restore", (PyCFunction)(void (*)(void))frames_restore_method, METH_FASTCALL, "Start over from what tables gave."},
    {"place", (PyCFunction)(void (*)(void))frames_place_method, METH_FASTCALL, "Take planes in that dump gave."},
    {"settle", (PyCFunction)frames_settle_method, METH_NOARGS, "Everything is placed."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_doc, "Planes of pixels by number, with counted references."},
    {Py_tp_new, frames_new},
    {Py_tp_dealloc, frames_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};
PyType_Spec frames_spec = {"nimbleq.native._replay.Frames", sizeof(FramesObject), 0, Py_TPFLAGS_DEFAULT, slots};

/* Python type `nimbleq.native._replay.Tree`; what its methods promise stands at SumTree in nimbleq/rl/replay/priority.py. */
#include "arrays.h"

#include "tree.h"

typedef struct {
    PyObject_HEAD
    Tree tree;
    int64_t *scratch; /* indices of a batch */
    size_t scratch_room;
} TreeObject;

static PyObject *tree_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"capacity", NULL};
    Py_ssize_t capacity;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n", names, &capacity))
        return NULL;
    if (capacity < 1) {
        PyErr_SetString(PyExc_ValueError, "capacity is at least 1");
        return NULL;
    }
    TreeObject *self = (TreeObject *)type->tp_alloc(type, 0);
    if (self != NULL && !tree_create(&self->tree, (size_t)capacity)) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void tree_dealloc(TreeObject *self)
{
    free(self->tree.memory);
    free(self->scratch);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* An index array of which every entry is a leaf, or NULL. */
static PyArrayObject *checked_index(const TreeObject *self, PyObject *object)
{
    PyArrayObject *index = array_of(object, NPY_INT64, 1);
    if (index == NULL)
        return NULL;
    const int64_t *at = PyArray_DATA(index);
    for (npy_intp i = 0; i < PyArray_SIZE(index); i++)
        if (at[i] < 0 || (size_t)at[i] >= self->tree.capacity) {
            PyErr_Format(PyExc_IndexError, "index %lld is outside 0..%zu", (long long)at[i], self->tree.capacity - 1);
            Py_DECREF(index);
            return NULL;
        }
    return index;
}

static bool reserve(TreeObject *self, size_t count)
{
    if (count <= self->scratch_room)
        return true;
    int64_t *bigger = realloc(self->scratch, count * sizeof *bigger);
    if (bigger == NULL) {
        PyErr_NoMemory();
        return false;
    }
    self->scratch = bigger;
    self->scratch_room = count;
    return true;
}

static PyObject *tree_set_method(TreeObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "set(index, value)");
        return NULL;
    }
    PyArrayObject *index = checked_index(self, args[0]);
    PyArrayObject *value = index == NULL ? NULL : array_of(args[1], NPY_FLOAT64, 0);
    bool ok = value != NULL;
    if (ok) {
        const npy_intp given = PyArray_SIZE(value), wanted = PyArray_SIZE(index);
        ok = given == wanted || PyArray_NDIM(value) == 0;
        if (!ok)
            PyErr_Format(PyExc_ValueError, "%zd values for %zd indices", (Py_ssize_t)given, (Py_ssize_t)wanted);
        ok = ok && reserve(self, (size_t)wanted);
        if (ok)
            tree_set(&self->tree, PyArray_DATA(index), PyArray_DATA(value), PyArray_NDIM(value) == 0, (size_t)wanted,
                     self->scratch);
    }
    Py_XDECREF(index);
    Py_XDECREF(value);
    if (!ok)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *tree_get_method(TreeObject *self, PyObject *object)
{
    PyArrayObject *index = checked_index(self, object);
    if (index == NULL)
        return NULL;
    PyObject *value = PyArray_SimpleNew(1, PyArray_DIMS(index), NPY_FLOAT64);
    if (value != NULL) {
        const int64_t *at = PyArray_DATA(index);
        double *out = PyArray_DATA((PyArrayObject *)value);
        for (npy_intp i = 0; i < PyArray_SIZE(index); i++)
            out[i] = self->tree.level[0][at[i]];
    }
    Py_DECREF(index);
    return value;
}

static PyObject *tree_find_method(TreeObject *self, PyObject *object)
{
    PyArrayObject *mass = (PyArrayObject *)PyArray_FROMANY(object, NPY_FLOAT64, 1, 1,
                                                           NPY_ARRAY_CARRAY | NPY_ARRAY_ENSURECOPY);
    if (mass == NULL)
        return NULL;
    PyObject *index = PyArray_SimpleNew(1, PyArray_DIMS(mass), NPY_INT64);
    if (index != NULL)
        tree_find(&self->tree, PyArray_DATA(mass), PyArray_DATA((PyArrayObject *)index), (size_t)PyArray_SIZE(mass));
    Py_DECREF(mass);
    return index;
}

static PyObject *tree_leaves(TreeObject *self, PyObject *Py_UNUSED(none))
{
    const npy_intp shape[1] = {(npy_intp)self->tree.capacity};
    PyObject *leaves = PyArray_SimpleNew(1, shape, NPY_FLOAT64);
    if (leaves != NULL)
        memcpy(PyArray_DATA((PyArrayObject *)leaves), self->tree.level[0], self->tree.capacity * sizeof(double));
    return leaves;
}

static PyObject *tree_load_method(TreeObject *self, PyObject *object)
{
    PyArrayObject *leaves = array_of(object, NPY_FLOAT64, 1);
    if (leaves == NULL)
        return NULL;
    const bool ok = (size_t)PyArray_SIZE(leaves) == self->tree.capacity;
    if (ok)
        tree_load(&self->tree, PyArray_DATA(leaves));
    else
        PyErr_Format(PyExc_ValueError, "there are %zu leaves", self->tree.capacity);
    Py_DECREF(leaves);
    if (!ok)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *get_total(TreeObject *self, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(tree_total(&self->tree));
}

static PyMethodDef methods[] = {
    {"set", (PyCFunction)(void (*)(void))tree_set_method, METH_FASTCALL, "Write values at indices and renew the sums."},
    {"get", (PyCFunction)tree_get_method, METH_O, "Values at indices."},
    {"find", (PyCFunction)tree_find_method, METH_O, "Indices whose slices of the cumulative sum hold the masses."},
    {"leaves", (PyCFunction)tree_leaves, METH_NOARGS, "A copy of all values."},
    {"load", (PyCFunction)tree_load_method, METH_O, "Replace all values."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef getset[] = {
    {"total", (getter)get_total, NULL, "Sum of all values.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_doc, "Sums over non-negative numbers."},
    {Py_tp_new, tree_new},
    {Py_tp_dealloc, tree_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {0, NULL},
};
PyType_Spec tree_spec = {"nimbleq.native._replay.Tree", sizeof(TreeObject), 0, Py_TPFLAGS_DEFAULT, slots};

/* nimbleq.native._runtime: calls a compiled policy from Python for a few tens of nanoseconds.

   Decider(path, name, shape, uint8, actions, masked, error, fallback, read, read_mask) opens the shared library of an
   emitted policy.
     act(obs, mask=None) -> int   float32 (or uint8), C-contiguous and of the right shape is the fast path; anything else
                                  goes through `read`. A masked policy needs a mask: bool[A] is the fast path, anything
                                  else goes through `read_mask`.
     q(obs) -> float32[A]
     run(obs[N, *O], mask[N, A]=None) -> (int32[N], float32[N, A])
     time_act(obs[K, *O], calls, mask[K, A]=None) -> float64[calls] nanoseconds of each call, timed here
     time_empty(calls) -> float64[calls] of the same loop around nothing
   A refused observation (not finite) raises `error`, or gives `fallback` when that is not negative; `refused` counts
   them. The interpreter's lock is held throughout, so any thread may call. */
#define NQ_ARRAY_OWNER
#include "decider.h"

#include <dlfcn.h>

/* A new reference to `obs` as the policy reads it. */
static PyObject *reading(const Decider *self, PyObject *obs)
{
    PyObject *read = PyObject_CallOneArg(self->read, obs);
    if (read == NULL) return NULL;
    PyObject *array = PyArray_FROM_OTF(read, self->type_num,
                                       NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_ENSUREARRAY);
    Py_DECREF(read);
    if (array != NULL && ready(self, array, 0) == NULL) {
        PyErr_SetString(self->error, "the observation does not become what the policy reads");
        Py_CLEAR(array);
    }
    return array;
}

static PyObject *refuse(Decider *self, const uint8_t *mask)
{
    int legal = mask == NULL;
    for (int a = 0; mask != NULL && a < self->actions; ++a) legal |= mask[a] != 0;
    if (!legal) {
        PyErr_SetString(self->error, "the mask allows no action: at least one has to be legal");
        return NULL;
    }
    self->refused++;
    if (self->fallback >= 0 && (mask == NULL || mask[self->fallback] != 0)) return PyLong_FromLong(self->fallback);
    PyErr_SetString(self->error,
                    self->fallback < 0
                        ? "the observation contains NaN or infinity, so there is no action for it"
                        : "the observation contains NaN or infinity, and the fallback action is not legal");
    return NULL;
}

/* The answer to `obs` (a borrowed reference). */
static PyObject *answer(Decider *self, const void *data, PyObject *mask)
{
    if (!self->masked) {
        const int action = self->act(data);
        return action >= 0 ? PyLong_FromLong(action) : refuse(self, NULL);
    }
    PyObject *read = NULL;
    const uint8_t *legal = ready_mask(self, mask);
    if (legal == NULL) {
        read = PyObject_CallOneArg(self->read_mask, mask);
        if (read == NULL) return NULL;
        legal = ready_mask(self, read);
    }
    PyObject *result = NULL;
    if (legal == NULL) {
        PyErr_SetString(self->error, "the mask does not become one flag per action");
    } else {
        const int action = self->act_masked(data, legal);
        result = action >= 0 ? PyLong_FromLong(action) : refuse(self, legal);
    }
    Py_XDECREF(read);
    return result;
}

static PyObject *decider_act(Decider *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *mask = Py_None;
    if (count == 2 && names == NULL) {
        mask = args[1];
    } else if (names != NULL && count == 1 && PyTuple_GET_SIZE(names) == 1 &&
               PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "mask") == 0) {
        mask = args[1];
    } else if (count != 1 || names != NULL) {
        PyErr_SetString(PyExc_TypeError, "act takes an observation, and a mask where the policy has one");
        return NULL;
    }
    if (self->masked != (mask != Py_None)) {
        PyErr_SetString(self->error, self->masked ? "this policy needs the mask of the legal actions: act(obs, mask)"
                                                  : "this policy takes no mask: its environment gave none");
        return NULL;
    }
    const void *data = ready(self, args[0], 0);
    if (data != NULL) return answer(self, data, mask);
    PyObject *array = reading(self, args[0]);
    if (array == NULL) return NULL;
    PyObject *action = answer(self, PyArray_DATA((PyArrayObject *)array), mask);
    Py_DECREF(array);
    return action;
}

static PyObject *decider_q(Decider *self, PyObject *obs)
{
    PyArrayObject *array = (PyArrayObject *)reading(self, obs);
    if (array == NULL) return NULL;
    npy_intp dims[1] = {self->actions};
    PyObject *q = PyArray_SimpleNew(1, dims, NPY_FLOAT32);
    const int status = q == NULL ? 0 : self->q(PyArray_DATA(array), (float *)PyArray_DATA((PyArrayObject *)q));
    Py_DECREF(array);
    if (status < 0) {
        Py_DECREF(q);
        self->refused++;
        PyErr_SetString(self->error, "the observation contains NaN or infinity, so there are no action values for it");
        return NULL;
    }
    return q;
}

static PyObject *decider_run(Decider *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"obs", "mask", NULL};
    PyObject *obs, *mask = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O", names, &obs, &mask)) return NULL;
    PyArrayObject *array = decider_batch(self, obs);
    if (array == NULL) return NULL;
    npy_intp dims[2] = {PyArray_DIM(array, 0), self->actions};
    PyArrayObject *legal = decider_masks(self, mask, dims[0]);
    if (legal == NULL && PyErr_Occurred()) {
        Py_DECREF(array);
        return NULL;
    }
    PyObject *actions = PyArray_SimpleNew(1, dims, NPY_INT32), *q = PyArray_SimpleNew(2, dims, NPY_FLOAT32);
    if (actions != NULL && q != NULL) {
        const char *data = (const char *)PyArray_DATA(array);
        const uint8_t *flags = legal == NULL ? NULL : (const uint8_t *)PyArray_DATA(legal);
        int32_t *action = (int32_t *)PyArray_DATA((PyArrayObject *)actions);
        float *values = (float *)PyArray_DATA((PyArrayObject *)q);
        for (npy_intp i = 0; i < dims[0]; ++i) {
            action[i] = decide(self, data + i * self->size * self->item, flags == NULL ? NULL : flags + i * dims[1]);
            if (self->q(data + i * self->size * self->item, values + i * dims[1]) < 0)
                for (npy_intp a = 0; a < dims[1]; ++a) values[i * dims[1] + a] = (float)Py_NAN;
            if ((i & 1023) == 1023 && PyErr_CheckSignals() != 0) {
                Py_CLEAR(q);
                break;
            }
        }
    }
    Py_DECREF(array);
    Py_XDECREF(legal);
    if (actions == NULL || q == NULL) {
        Py_XDECREF(actions);
        Py_XDECREF(q);
        return NULL;
    }
    return Py_BuildValue("(NN)", actions, q);
}

static int decider_init(Decider *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path", "name", "shape", "uint8", "actions", "masked", "error", "fallback", "read",
                            "read_mask", NULL};
    const char *path, *name;
    PyObject *shape, *error, *read, *read_mask;
    int uint8;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ssO!pipOlOO", names, &path, &name, &PyTuple_Type, &shape, &uint8,
                                     &self->actions, &self->masked, &error, &self->fallback, &read, &read_mask))
        return -1;
    self->ndim = (int)PyTuple_GET_SIZE(shape);
    if (self->ndim < 1 || self->ndim >= NPY_MAXDIMS || self->library != NULL) {
        PyErr_SetString(PyExc_ValueError, "a Decider is made once, for observations of 1 axis or more");
        return -1;
    }
    self->size = 1;
    for (int i = 0; i < self->ndim; ++i) {
        self->shape[i] = PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, i));
        if (self->shape[i] == -1 && PyErr_Occurred()) return -1;
        self->size *= self->shape[i];
    }
    self->type_num = uint8 ? NPY_UINT8 : NPY_FLOAT32;
    self->item = uint8 ? 1 : 4;
    Py_XSETREF(self->error, Py_NewRef(error));
    Py_XSETREF(self->read, Py_NewRef(read));
    Py_XSETREF(self->read_mask, Py_NewRef(read_mask));
    self->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (self->library != NULL) {
        char symbol[128];
        PyOS_snprintf(symbol, sizeof symbol, self->masked ? "%s_act_masked" : "%s_act", name);
        if (self->masked) *(void **)&self->act_masked = dlsym(self->library, symbol);
        else *(void **)&self->act = dlsym(self->library, symbol);
        PyOS_snprintf(symbol, sizeof symbol, "%s_q", name);
        *(void **)&self->q = dlsym(self->library, symbol);
    }
    if ((self->act == NULL && self->act_masked == NULL) || self->q == NULL) {
        const char *why = dlerror();
        PyErr_Format(PyExc_OSError, "cannot load %s: %s", path, why ? why : "no such function");
        return -1;
    }
    return 0;
}

static void decider_dealloc(Decider *self)
{
    if (self->library != NULL) dlclose(self->library);
    Py_XDECREF(self->error);
    Py_XDECREF(self->read);
    Py_XDECREF(self->read_mask);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *decider_refused(Decider *self, void *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(self->refused);
}

static PyMethodDef methods[] = {
    {"act", (PyCFunction)(void (*)(void))decider_act, METH_FASTCALL | METH_KEYWORDS, "act(obs, mask=None) -> int"},
    {"q", (PyCFunction)decider_q, METH_O, "q(obs) -> float32[A]"},
    {"run", (PyCFunction)(void (*)(void))decider_run, METH_VARARGS | METH_KEYWORDS,
     "run(obs[N, *O], mask[N, A]=None) -> (int32[N], float32[N, A])"},
    {"time_act", (PyCFunction)decider_time_act, METH_VARARGS, "time_act(obs[K, *O], calls, mask[K, A]=None) -> float64[calls] ns"},
    {"time_empty", (PyCFunction)decider_time_empty, METH_VARARGS, "time_empty(calls) -> float64[calls] ns"},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"refused", (getter)decider_refused, NULL, "observations refused so far", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject DeciderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "nimbleq.native._runtime.Decider",
    .tp_basicsize = sizeof(Decider),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "A compiled policy",
    .tp_methods = methods,
    .tp_getset = getters,
    .tp_init = (initproc)decider_init,
    .tp_dealloc = (destructor)decider_dealloc,
    .tp_new = PyType_GenericNew,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_runtime", "Compiled policies, called fast.", -1,
                                    NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__runtime(void)
{
    import_array();
    if (PyType_Ready(&DeciderType) < 0) return NULL;
    PyObject *self = PyModule_Create(&module);
    if (self != NULL && PyModule_AddObjectRef(self, "Decider", (PyObject *)&DeciderType) < 0) Py_CLEAR(self);
    return self;
}

/* nimbleq.native._runtime: calls a compiled policy from Python for a few tens of nanoseconds.

   Decider(policy, shape, uint8, actions, masked, error, fallback, read, read_mask) opens a policy: (path, name) of a
   shared library made from emitted code, or (bytes, isa) of a program for the prebuilt engine; see isas().
     act(obs, mask=None) -> int   float32 (or uint8), C-contiguous and of the right shape is the fast path; anything else
                                  goes through `read`. A masked policy needs a mask: bool[A] is the fast path, anything
                                  else goes through `read_mask`.
     q(obs) -> float32[A]
     run(obs[N, *O], mask[N, A]=None) -> (int32[N], float32[N, A])
     time_act(obs[K, *O], calls, mask[K, A]=None) -> float64[calls] nanoseconds of each call, timed here
     time_empty(calls) -> float64[calls] of the same loop around nothing
   A refused observation (not finite) raises `error`, or gives `fallback` when that is not negative; `refused` counts
   them. Any thread may call: the interpreter's lock is held, but where a program takes so long that letting go of it pays. */
#define NQ_ARRAY_OWNER
#include "decider.h"

#include "../engine/program.h"

/* Runs one decision; other threads may run meanwhile where it takes long. */
static inline int decide(Policy *policy, const void *obs, const uint8_t *mask)
{
    if (!policy->slow) return policy->act(policy, obs, mask);
    int action;
    Py_BEGIN_ALLOW_THREADS
    action = policy->act(policy, obs, mask);
    Py_END_ALLOW_THREADS
    return action;
}

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

/* What a decision below 0 means: -1 that the observation is refused, -2 that there was no memory. */
static PyObject *refuse(Decider *self, int action, const uint8_t *mask)
{
    if (action < -1) return PyErr_NoMemory();
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
        const int action = decide(self->policy, data, NULL);
        return action >= 0 ? PyLong_FromLong(action) : refuse(self, action, NULL);
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
        const int action = decide(self->policy, data, legal);
        result = action >= 0 ? PyLong_FromLong(action) : refuse(self, action, legal);
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
    const int status = q == NULL ? 0 : self->policy->q(self->policy, PyArray_DATA(array), (float *)PyArray_DATA((PyArrayObject *)q));
    Py_DECREF(array);
    if (status < 0) {
        Py_DECREF(q);
        self->refused++;
        PyErr_SetString(self->error, "the observation contains NaN or infinity, so there are no action values for it");
        return NULL;
    }
    return q;
}

/* Arrays of a batch. */
typedef struct {
    const char *obs;
    const uint8_t *mask; /* NULL where there is none */
    int32_t *action;
    float *q;
} Batch;

enum { CHUNK = 1024 };
#define LETS_GO 1e6 /* multiplications of a batch from which on other threads may run meanwhile */

static void run_part(const Decider *self, const Batch *batch, npy_intp first, npy_intp end)
{
    Policy *const policy = self->policy;
    for (npy_intp i = first; i < end; ++i) {
        const char *obs = batch->obs + i * self->size * self->item;
        float *q = batch->q + i * self->actions;
        batch->action[i] = policy->act(policy, obs, batch->mask == NULL ? NULL : batch->mask + i * self->actions);
        if (policy->q(policy, obs, q) < 0)
            for (npy_intp a = 0; a < self->actions; ++a) q[a] = (float)Py_NAN;
    }
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
        const Batch batch = {PyArray_DATA(array), legal == NULL ? NULL : PyArray_DATA(legal),
                             PyArray_DATA((PyArrayObject *)actions), PyArray_DATA((PyArrayObject *)q)};
        const int lets_go = self->policy->work * (double)dims[0] > LETS_GO;
        for (npy_intp first = 0; first < dims[0]; first += CHUNK) {
            const npy_intp end = first + CHUNK < dims[0] ? first + CHUNK : dims[0];
            PyThreadState *state = lets_go ? PyEval_SaveThread() : NULL;
            run_part(self, &batch, first, end);
            if (lets_go) PyEval_RestoreThread(state);
            if (PyErr_CheckSignals() != 0) {
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
    static char *names[] = {"policy", "shape", "uint8", "actions", "masked", "error", "fallback", "read", "read_mask", NULL};
    const char *what;
    PyObject *policy, *shape, *error, *read, *read_mask, *opened;
    int uint8;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!pipOlOO", names, &PyTuple_Type, &policy, &PyTuple_Type, &shape,
                                     &uint8, &self->actions, &self->masked, &error, &self->fallback, &read, &read_mask) ||
        !PyArg_ParseTuple(policy, "Os", &opened, &what))
        return -1;
    self->ndim = (int)PyTuple_GET_SIZE(shape);
    if (self->ndim < 1 || self->ndim >= NPY_MAXDIMS || self->policy != NULL) {
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
    const Interface interface = {self->size, uint8, self->actions, self->masked};
    if (PyBytes_Check(opened)) {
        self->policy = nq_open_program(PyBytes_AS_STRING(opened), PyBytes_GET_SIZE(opened), what, &interface);
    } else {
        const char *path = PyUnicode_AsUTF8(opened);
        if (path != NULL) self->policy = nq_open_library(path, what, &interface);
    }
    return self->policy == NULL ? -1 : 0;
}

static void decider_dealloc(Decider *self)
{
    if (self->policy != NULL) self->policy->close(self->policy);
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
    .tp_doc = "A policy",
    .tp_methods = methods,
    .tp_getset = getters,
    .tp_init = (initproc)decider_init,
    .tp_dealloc = (destructor)decider_dealloc,
    .tp_new = PyType_GenericNew,
};

/* The instruction sets for which this processor has kernels, the best first. */
static PyObject *isas(PyObject *module, PyObject *unused)
{
    static const char *const names[] = {"avx512-vnni", "avx2", "portable"};
    (void)module;
    (void)unused;
    PyObject *list = PyList_New(0);
    for (int i = 0; list != NULL && i < 3; ++i) {
        PyObject *name = nq_kernels(names[i]) == NULL ? NULL : PyUnicode_FromString(names[i]);
        if (name != NULL && PyList_Append(list, name) < 0) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    PyObject *found = list == NULL ? NULL : PyList_AsTuple(list);
    Py_XDECREF(list);
    return found;
}

static PyMethodDef functions[] = {
    {"isas", isas, METH_NOARGS, "isas() -> names of the kernels that this processor can run, the best first"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_runtime", "Policies, called fast.", -1,
                                    functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__runtime(void)
{
    import_array();
    if (PyType_Ready(&DeciderType) < 0) return NULL;
    PyObject *self = PyModule_Create(&module);
    if (self != NULL && PyModule_AddObjectRef(self, "Decider", (PyObject *)&DeciderType) < 0) Py_CLEAR(self);
    return self;
}

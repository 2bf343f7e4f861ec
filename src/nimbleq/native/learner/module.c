/* Python type `nimbleq.native._learner.Learner`. The meaning of every argument is in nimbleq/rl/learners/native.py. */
#define PY_SSIZE_T_CLEAN
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <Python.h>
#include <numpy/arrayobject.h>

#include "learner.h"
#include "vec.h"

typedef struct {
    PyObject_HEAD
    Learner learner;
} LearnerObject;

/* hidden: a tuple of widths. */
static bool read_hidden(PyObject *hidden, Options *options)
{
    const Py_ssize_t count = PyTuple_GET_SIZE(hidden);
    if (count > MAX_LAYERS - 1) {
        PyErr_Format(PyExc_ValueError, "at most %d hidden layers", MAX_LAYERS - 1);
        return false;
    }
    options->hidden_layers = (size_t)count;
    for (Py_ssize_t i = 0; i < count; i++) {
        const Py_ssize_t width = PyNumber_AsSsize_t(PyTuple_GET_ITEM(hidden, i), PyExc_OverflowError);
        if (width == -1 && PyErr_Occurred())
            return false;
        if (width < 1) {
            PyErr_SetString(PyExc_ValueError, "hidden widths are at least 1");
            return false;
        }
        options->hidden[i] = (size_t)width;
    }
    return true;
}

static PyObject *learner_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"obs", "actions", "hidden", "batch", "normalize", "layer_norm", "dueling", "double", "huber",
                            "radam", "target", "target_every", "lr_updates", "obs_clip", "tau", "lr", "lr_end", "adam_eps",
                            "max_grad_norm", "reward_scale", "head", "atoms", "v_min", "v_max", "munchausen", "munchausen_alpha",
                            "munchausen_tau", "munchausen_clip", "noisy", "smoothing", "sparse", "dynamic", "spectral", NULL};
    Options o = {0};
    Py_ssize_t obs, actions, batch, atoms;
    PyObject *hidden;
    int normalize, layer_norm, dueling, double_q, huber, radam, target, head, munchausen, noisy, sparse, dynamic, spectral;
    long long target_every, lr_updates;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "$nnO!nppppppiLLdddddddinddpdddpdppp", names, &obs, &actions, &PyTuple_Type,
                                     &hidden, &batch, &normalize, &layer_norm, &dueling, &double_q, &huber, &radam,
                                     &target, &target_every, &lr_updates, &o.obs_clip, &o.tau, &o.lr, &o.lr_end, &o.adam_eps,
                                     &o.max_grad_norm, &o.reward_scale, &head, &atoms, &o.v_min, &o.v_max, &munchausen,
                                     &o.munchausen_alpha, &o.munchausen_tau, &o.munchausen_clip, &noisy, &o.smoothing, &sparse, &dynamic,
                                     &spectral))
        return NULL;
    const bool bins = head == HEAD_C51 || head == HEAD_HL_GAUSS;
    if (head < HEAD_Q || head > HEAD_HL_GAUSS || atoms < 1 + bins || (head == HEAD_Q && atoms > 1)) {
        PyErr_SetString(PyExc_ValueError, "head is 0 with 1 output, 2 with at least 1, or 1 or 3 with at least 2");
        return NULL;
    }
    if (obs < 1 || actions < 1 || batch < 1 || target_every < 1 || lr_updates < 1 || target < TARGET_NONE ||
        target > TARGET_POLYAK) {
        PyErr_SetString(PyExc_ValueError, "sizes, target_every and lr_updates are at least 1, target is 0, 1 or 2");
        return NULL;
    }
    o.obs = (size_t)obs, o.actions = (size_t)actions;
    o.normalize = normalize, o.layer_norm = layer_norm, o.dueling = dueling, o.double_q = double_q, o.huber = huber;
    o.radam = radam, o.munchausen = munchausen, o.noisy = noisy, o.sparse = sparse;
    o.dynamic = sparse && dynamic, o.spectral = spectral;
    o.head = (Head)head, o.atoms = (size_t)atoms;
    o.target = (Target)target, o.target_every = target_every, o.lr_updates = lr_updates;
    if (!read_hidden(hidden, &o))
        return NULL;
    LearnerObject *self = (LearnerObject *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    if (!learner_create(&self->learner, &o, (size_t)batch)) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void learner_dealloc(LearnerObject *self)
{
    learner_free(&self->learner);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* The bytes of the state, writable; their owner is this object, so that views keep it alive. */
static int learner_getbuffer(LearnerObject *self, Py_buffer *view, int flags)
{
    const Py_ssize_t bytes = (Py_ssize_t)(self->learner.state_count * sizeof(float));
    return PyBuffer_FillInfo(view, (PyObject *)self, self->learner.state, bytes, 0, flags);
}

/* A C-contiguous array of `type` with `dims` dimensions (borrowing the memory when it is one already), or NULL. */
static PyArrayObject *array_of(PyObject *object, int type, int dims)
{
    return (PyArrayObject *)PyArray_FROMANY(object, type, dims, dims, NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST);
}

/* From NEXT_MASK on they may be missing. */
enum { OBS, ACTION, REWARD, DISCOUNT, NEXT_OBS, WEIGHT, NEXT_MASK, MASK, NOISE, PROBABILITY, STRENGTH, INPUTS };

static bool check_batch(const LearnerObject *self, PyArrayObject *const *in)
{
    const npy_intp updates = PyArray_DIM(in[OBS], 0), batch = PyArray_DIM(in[OBS], 1);
    for (int i = 0; i < INPUTS; i++) {
        if (in[i] == NULL || i == NOISE)
            continue;
        const bool by_action = i == NEXT_MASK || i == MASK || i == PROBABILITY;
        const size_t last = by_action ? self->learner.options.actions : self->learner.options.obs;
        if (PyArray_DIM(in[i], 0) != updates || PyArray_DIM(in[i], 1) != batch || batch < 1 ||
            (PyArray_NDIM(in[i]) == 3 && PyArray_DIM(in[i], 2) != (npy_intp)last)) {
            PyErr_Format(PyExc_ValueError,
                         "arrays of a batch disagree in shape (observations have %zu features, masks %zu actions)",
                         self->learner.options.obs, self->learner.options.actions);
            return false;
        }
    }
    const npy_intp factors = self->learner.options.noisy ? 2 * (npy_intp)learner_noise_count(&self->learner) : 0;
    if ((in[NOISE] == NULL) != (factors == 0) ||
        (in[NOISE] != NULL && (PyArray_DIM(in[NOISE], 0) != updates || PyArray_DIM(in[NOISE], 1) != factors))) {
        PyErr_Format(PyExc_ValueError, "noise has %zd factors an update", (Py_ssize_t)factors);
        return false;
    }
    const npy_int64 *action = PyArray_DATA(in[ACTION]), actions = (npy_int64)self->learner.options.actions;
    for (npy_intp i = 0; i < updates * batch; i++)
        if (action[i] < 0 || action[i] >= actions) {
            PyErr_Format(PyExc_ValueError, "action %lld is not one of 0..%lld", (long long)action[i],
                         (long long)actions - 1);
            return false;
        }
    return true;
}

/* Runs all updates of checked arrays, or up to one that halts; returns |TD error| [U, B]. */
static PyObject *run_updates(LearnerObject *self, PyArrayObject *const *in, float inverse_tau)
{
    const size_t updates = (size_t)PyArray_DIM(in[OBS], 0), size = (size_t)PyArray_DIM(in[OBS], 1);
    const size_t obs = self->learner.options.obs, actions = self->learner.options.actions;
    const unsigned char *next_mask = in[NEXT_MASK] == NULL ? NULL : PyArray_DATA(in[NEXT_MASK]);
    const unsigned char *mask = in[MASK] == NULL ? NULL : PyArray_DATA(in[MASK]);
    const float *noise = in[NOISE] == NULL ? NULL : PyArray_DATA(in[NOISE]);
    if (!learner_reserve(&self->learner, size))
        return PyErr_NoMemory();
    PyObject *abs_td = PyArray_SimpleNew(2, PyArray_DIMS(in[OBS]), NPY_FLOAT32);
    if (abs_td == NULL)
        return NULL;
    for (size_t u = 0; u < updates; u++) {
        const Batch batch = {
            .obs = (const float *)PyArray_DATA(in[OBS]) + u * size * obs,
            .action = (const int64_t *)PyArray_DATA(in[ACTION]) + u * size,
            .reward = (const float *)PyArray_DATA(in[REWARD]) + u * size,
            .discount = (const float *)PyArray_DATA(in[DISCOUNT]) + u * size,
            .next_obs = (const float *)PyArray_DATA(in[NEXT_OBS]) + u * size * obs,
            .weight = (const float *)PyArray_DATA(in[WEIGHT]) + u * size,
            .next_mask = next_mask == NULL ? NULL : next_mask + u * size * actions,
            .mask = mask == NULL ? NULL : mask + u * size * actions,
            .noise = noise == NULL ? NULL : noise + u * 2 * learner_noise_count(&self->learner),
        };
        const bool imitates = in[PROBABILITY] != NULL;
        const Imitation towards = {
            .probability = imitates ? (const float *)PyArray_DATA(in[PROBABILITY]) + u * size * actions : NULL,
            .weight = imitates ? (const float *)PyArray_DATA(in[STRENGTH]) + u * size : NULL,
            .inverse_tau = inverse_tau,
        };
        float *errors = (float *)PyArray_DATA((PyArrayObject *)abs_td) + u * size;
        learner_update(&self->learner, &batch, imitates ? &towards : NULL, size, errors);
        if (self->learner.halted)
            break;
    }
    return abs_td;
}

static PyObject *learner_update_many(LearnerObject *self, PyObject *const *args, Py_ssize_t count)
{
    static const int types[INPUTS] = {NPY_FLOAT32, NPY_INT64, NPY_FLOAT32, NPY_FLOAT32, NPY_FLOAT32, NPY_FLOAT32,
                                      NPY_BOOL, NPY_BOOL, NPY_FLOAT32, NPY_FLOAT32, NPY_FLOAT32};
    static const int dims[INPUTS] = {3, 2, 2, 2, 3, 2, 3, 3, 2, 3, 2};
    if (count != PROBABILITY && count != INPUTS + 1) {
        PyErr_SetString(PyExc_TypeError, "update_many(obs, action, reward, discount, next_obs, weight, next_mask, mask, noise, "
                                         "[probability, strength, inverse_tau])");
        return NULL;
    }
    const double inverse_tau = count > INPUTS ? PyFloat_AsDouble(args[INPUTS]) : 1.0;
    if (PyErr_Occurred())
        return NULL;
    PyArrayObject *in[INPUTS] = {NULL};
    bool ok = true;
    for (int i = 0; i < INPUTS && i < count && ok; i++) {
        if (i >= NEXT_MASK && i <= NOISE && args[i] == Py_None)
            continue;
        in[i] = array_of(args[i], types[i], dims[i]);
        ok = in[i] != NULL;
    }
    PyObject *abs_td = ok && check_batch(self, in) ? run_updates(self, in, (float)inverse_tau) : NULL;
    for (int i = 0; i < INPUTS; i++)
        Py_XDECREF(in[i]);
    return abs_td;
}

static PyArrayObject *checked_obs(const LearnerObject *self, PyObject *object)
{
    PyArrayObject *obs = array_of(object, NPY_FLOAT32, 2);
    if (obs != NULL && PyArray_DIM(obs, 1) != (npy_intp)self->learner.options.obs) {
        PyErr_Format(PyExc_ValueError, "observations have %zd features, not %zu", (Py_ssize_t)PyArray_DIM(obs, 1),
                     self->learner.options.obs);
        Py_CLEAR(obs);
    }
    return obs;
}

static PyObject *learner_imitate_method(LearnerObject *self, PyObject *args)
{
    PyObject *given[3];
    double inverse_tau;
    if (!PyArg_ParseTuple(args, "OOOd", &given[0], &given[1], &given[2], &inverse_tau))
        return NULL;
    PyArrayObject *obs = checked_obs(self, given[0]);
    PyArrayObject *probability = obs == NULL ? NULL : array_of(given[1], NPY_FLOAT32, 2);
    PyArrayObject *weight = probability == NULL ? NULL : array_of(given[2], NPY_FLOAT32, 1);
    PyObject *done = NULL;
    if (weight != NULL) {
        const npy_intp size = PyArray_DIM(obs, 0), actions = (npy_intp)self->learner.options.actions;
        if (size < 1 || PyArray_DIM(probability, 0) != size || PyArray_DIM(probability, 1) != actions ||
            PyArray_DIM(weight, 0) != size) {
            PyErr_Format(PyExc_ValueError, "imitation needs [B, O], [B, %zd] and [B]", (Py_ssize_t)actions);
        } else if (!learner_reserve(&self->learner, (size_t)size)) {
            PyErr_NoMemory();
        } else {
            const Imitation towards = {PyArray_DATA(probability), PyArray_DATA(weight), (float)inverse_tau};
            learner_imitate(&self->learner, PyArray_DATA(obs), &towards, (size_t)size);
            done = Py_NewRef(Py_None);
        }
    }
    Py_XDECREF(obs);
    Py_XDECREF(probability);
    Py_XDECREF(weight);
    return done;
}

static PyObject *learner_q_method(LearnerObject *self, PyObject *object)
{
    PyArrayObject *obs = checked_obs(self, object);
    if (obs == NULL)
        return NULL;
    npy_intp shape[2] = {PyArray_DIM(obs, 0), (npy_intp)self->learner.options.actions};
    PyObject *q = PyArray_SimpleNew(2, shape, NPY_FLOAT32);
    if (q != NULL)
        learner_q(&self->learner, PyArray_DATA(obs), (size_t)shape[0], PyArray_DATA((PyArrayObject *)q));
    Py_DECREF(obs);
    return q;
}

static PyObject *learner_act_method(LearnerObject *self, PyObject *object)
{
    PyArrayObject *obs = checked_obs(self, object);
    if (obs == NULL)
        return NULL;
    npy_intp shape[1] = {PyArray_DIM(obs, 0)};
    PyObject *action = PyArray_SimpleNew(1, shape, NPY_INT64);
    if (action != NULL)
        learner_act(&self->learner, PyArray_DATA(obs), (size_t)shape[0], PyArray_DATA((PyArrayObject *)action));
    Py_DECREF(obs);
    return action;
}

static PyObject *learner_set_noise_method(LearnerObject *self, PyObject *object)
{
    if (object == Py_None) {
        learner_set_noise(&self->learner, NULL);
        Py_RETURN_NONE;
    }
    PyArrayObject *noise = array_of(object, NPY_FLOAT32, 1);
    if (noise == NULL)
        return NULL;
    const bool fits = self->learner.options.noisy && PyArray_DIM(noise, 0) == (npy_intp)learner_noise_count(&self->learner);
    if (fits)
        learner_set_noise(&self->learner, PyArray_DATA(noise));
    else
        PyErr_SetString(PyExc_ValueError, "that many factors of noise do not fit");
    Py_DECREF(noise);
    return fits ? Py_NewRef(Py_None) : NULL;
}

static PyObject *learner_gradient_method(LearnerObject *self, PyObject *Py_UNUSED(none))
{
    const Learner *learner = &self->learner;
    npy_intp count = learner->grad == NULL ? 0 : (npy_intp)learner->param_count;
    PyObject *gradient = PyArray_SimpleNew(1, &count, NPY_FLOAT32);
    if (gradient != NULL && count > 0)
        memcpy(PyArray_DATA((PyArrayObject *)gradient), learner->grad, (size_t)count * sizeof(float));
    return gradient;
}

static PyObject *learner_move_method(LearnerObject *self, PyObject *Py_UNUSED(none))
{
    if (!self->learner.halted) {
        PyErr_SetString(PyExc_ValueError, "no step has stopped halfway");
        return NULL;
    }
    learner_move(&self->learner);
    Py_RETURN_NONE;
}

static PyObject *get_updates(LearnerObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(self->learner.updates);
}

static int set_updates(LearnerObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    const long long updates = value == NULL ? -1 : PyLong_AsLongLong(value);
    if (updates < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "updates is a count");
        return -1;
    }
    self->learner.updates = updates;
    return 0;
}

static PyObject *get_frozen(LearnerObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(self->learner.frozen);
}

static int set_frozen(LearnerObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    const Py_ssize_t frozen = value == NULL ? -1 : PyNumber_AsSsize_t(value, PyExc_OverflowError);
    if (frozen < 0 || (size_t)frozen >= self->learner.layers) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "0 to %zu layers can be frozen", self->learner.layers - 1);
        return -1;
    }
    self->learner.frozen = (size_t)frozen;
    return 0;
}

static PyObject *get_pause(LearnerObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(self->learner.pause);
}

static int set_pause(LearnerObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    const long long pause = value == NULL ? -1 : PyLong_AsLongLong(value);
    if (PyErr_Occurred())
        return -1;
    self->learner.pause = pause;
    return 0;
}

static PyObject *get_halted(LearnerObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->learner.halted);
}

static PyObject *get_threads(LearnerObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(self->learner.threads);
}

static int set_threads(LearnerObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    const Py_ssize_t threads = value == NULL ? -1 : PyNumber_AsSsize_t(value, PyExc_OverflowError);
    if (threads < 1 || threads > CREW_MOST) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "1 to %d threads", CREW_MOST);
        return -1;
    }
    if (learner_share(&self->learner, (size_t)threads))
        return 0;
    PyErr_NoMemory();
    return -1;
}

static PyMethodDef methods[] = {
    {"update_many", (PyCFunction)(void (*)(void))learner_update_many, METH_FASTCALL,
     "Gradient steps on stacked batches [U, B, ...], up to one that stops halfway; returns |TD error| float32[U, B]."},
    {"imitate", (PyCFunction)learner_imitate_method, METH_VARARGS,
     "A gradient step on KL(p || softmax(q inverse_tau)): obs [B, O], p [B, A] (negative: illegal), weight [B], inverse_tau."},
    {"set_noise", (PyCFunction)learner_set_noise_method, METH_O, "Factors of the online network for q and act, or None."},
    {"gradient", (PyCFunction)learner_gradient_method, METH_NOARGS, "A copy of all gradients of a step that stopped halfway."},
    {"move", (PyCFunction)learner_move_method, METH_NOARGS, "The rest of a step that stopped halfway."},
    {"q", (PyCFunction)learner_q_method, METH_O, "float32[B, O] -> float32[B, A]."},
    {"act", (PyCFunction)learner_act_method, METH_O, "float32[B, O] -> greedy action int64[B]."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef getset[] = {
    {"updates", (getter)get_updates, (setter)set_updates, "Gradient steps done.", NULL},
    {"frozen", (getter)get_frozen, (setter)set_frozen, "Layers, from the first on, that no step changes.", NULL},
    {"pause", (getter)get_pause, (setter)set_pause,
     "The step after so many stops where it has the gradients, and those after it wait; -1: none.", NULL},
    {"halted", (getter)get_halted, NULL, "A step has stopped there.", NULL},
    {"threads", (getter)get_threads, (setter)set_threads,
     "Those that large updates are shared by; results do not depend on it.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_doc, "A fused Q-learner; as a buffer it is its own state (bytes of float32)."},
    {Py_tp_new, learner_new},
    {Py_tp_dealloc, learner_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_bf_getbuffer, learner_getbuffer},
    {0, NULL},
};
static PyType_Spec spec = {"nimbleq.native._learner.Learner", sizeof(LearnerObject), 0, Py_TPFLAGS_DEFAULT, slots};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_learner", .m_size = 0};

PyMODINIT_FUNC PyInit__learner(void)
{
    import_array();
    PyObject *module = PyModule_Create(&definition);
    PyObject *type = module == NULL ? NULL : PyType_FromSpec(&spec);
    const bool ok = type != NULL && PyModule_AddObjectRef(module, "Learner", type) == 0 &&
                    PyModule_AddIntConstant(module, "BLOCK", BLOCK) == 0;
    Py_XDECREF(type);
    if (!ok)
        Py_CLEAR(module);
    return module;
}

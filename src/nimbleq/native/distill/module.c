/* Python type `nimbleq.native._distill.Student`. The meaning of every argument is in nimbleq/compress/passes/native_fit.py. */
#define PY_SSIZE_T_CLEAN
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <Python.h>
#include <numpy/arrayobject.h>

#include "../learner/vec.h"
#include "student.h"

#define MAX_PARTS 64
#define MOST_STATES UINT32_MAX

typedef struct {
    PyObject_HEAD
    Student student;
} StudentObject;

/* A tuple of `count` numbers. */
static bool read_numbers(PyObject *tuple, size_t count, const char *name, float *out)
{
    if ((size_t)PyTuple_GET_SIZE(tuple) != count) {
        PyErr_Format(PyExc_ValueError, "%s has %zd entries, not %zu", name, PyTuple_GET_SIZE(tuple), count);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        out[i] = (float)PyFloat_AsDouble(PyTuple_GET_ITEM(tuple, (Py_ssize_t)i));
        if (PyErr_Occurred())
            return false;
    }
    return true;
}

static bool read_widths(PyObject *widths, Options *options)
{
    const Py_ssize_t count = PyTuple_GET_SIZE(widths);
    if (count < 2 || count > MAX_LAYERS + 1) {
        PyErr_Format(PyExc_ValueError, "a student has 1 to %d layers", MAX_LAYERS);
        return false;
    }
    options->layers = (size_t)count - 1;
    for (Py_ssize_t i = 0; i < count; i++) {
        const Py_ssize_t width = PyNumber_AsSsize_t(PyTuple_GET_ITEM(widths, i), PyExc_OverflowError);
        if (width == -1 && PyErr_Occurred())
            return false;
        if (width < 1) {
            PyErr_SetString(PyExc_ValueError, "widths are at least 1");
            return false;
        }
        options->width[i] = (size_t)width;
    }
    return true;
}

/* low, high, shared, top: a number for each layer. */
static bool read_levels(PyObject *const levels[4], Options *options)
{
    float shared[MAX_LAYERS];
    const size_t layers = options->layers;
    if (!read_numbers(levels[0], layers, "low", options->low) || !read_numbers(levels[1], layers, "high", options->high) ||
        !read_numbers(levels[2], layers, "shared", shared) || !read_numbers(levels[3], layers, "top", options->top))
        return false;
    for (size_t l = 0; l < layers; l++) {
        options->shared[l] = shared[l] != 0;
        if (!(options->low[l] <= 0 && options->high[l] >= 1 && options->top[l] >= 1)) {
            PyErr_SetString(PyExc_ValueError, "levels reach from low <= 0 to high >= 1, and activations to top >= 1");
            return false;
        }
    }
    return true;
}

static PyObject *student_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"widths", "adam_eps", "max_grad_norm", "quantized", "powers_of_two",
                            "low",    "high",     "shared",        "top",       NULL};
    Options options = {0};
    PyObject *widths, *levels[4] = {NULL};
    int quantized = 0, powers_of_two = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!dd|$ppO!O!O!O!", names, &PyTuple_Type, &widths, &options.adam_eps,
                                     &options.max_grad_norm, &quantized, &powers_of_two, &PyTuple_Type, &levels[0],
                                     &PyTuple_Type, &levels[1], &PyTuple_Type, &levels[2], &PyTuple_Type, &levels[3]))
        return NULL;
    options.quantized = quantized, options.powers_of_two = powers_of_two;
    if (!read_widths(widths, &options))
        return NULL;
    if (quantized && (!levels[0] || !levels[1] || !levels[2] || !levels[3])) {
        PyErr_SetString(PyExc_TypeError, "a quantized student needs low, high, shared and top");
        return NULL;
    }
    if (quantized && !read_levels(levels, &options))
        return NULL;
    StudentObject *self = (StudentObject *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    if (!student_create(&self->student, &options)) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void student_dealloc(StudentObject *self)
{
    student_free(&self->student);
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* The bytes of the state, writable; their owner is this object, so that views keep it alive. */
static int student_getbuffer(StudentObject *self, Py_buffer *view, int flags)
{
    const Py_ssize_t bytes = (Py_ssize_t)(self->student.state_count * sizeof(float));
    return PyBuffer_FillInfo(view, (PyObject *)self, self->student.state, bytes, 0, flags);
}

/* A C-contiguous array of exactly this type and shape, or NULL with an error; rows < 0: any. */
static PyArrayObject *array_of(PyObject *object, int type, const char *name, npy_intp rows, size_t columns)
{
    PyArrayObject *array = (PyArrayObject *)object;
    if (!PyArray_Check(object) || PyArray_TYPE(array) != type || PyArray_NDIM(array) != 2 || !PyArray_ISCARRAY_RO(array) ||
        (rows >= 0 && PyArray_DIM(array, 0) != rows) || PyArray_DIM(array, 1) != (npy_intp)columns) {
        PyErr_Format(PyExc_ValueError, "%s must be C-contiguous, of the right type and of shape [K, %zu]", name, columns);
        return NULL;
    }
    return array;
}

/* obs: float32[K, in_stride] or uint8[K, O]; returns K, or -1. */
static npy_intp read_obs_array(const Student *student, PyObject *object, const float **obs, const unsigned char **raw)
{
    const bool bytes = PyArray_Check(object) && PyArray_TYPE((PyArrayObject *)object) == NPY_UINT8;
    const Layer *first = &student->layer[0];
    PyArrayObject *array = bytes ? array_of(object, NPY_UINT8, "obs", -1, first->in)
                                 : array_of(object, NPY_FLOAT32, "obs", -1, first->in_stride);
    if (array == NULL)
        return -1;
    *obs = bytes ? NULL : PyArray_DATA(array);
    *raw = bytes ? PyArray_DATA(array) : NULL;
    return PyArray_DIM(array, 0);
}

/* sizes: a tuple of the parts of `states` states. */
static bool read_sizes(PyObject *tuple, npy_intp states, uint64_t *sizes)
{
    const Py_ssize_t parts = PyTuple_GET_SIZE(tuple);
    uint64_t total = 0;
    bool fit = parts >= 1 && parts <= MAX_PARTS;
    for (Py_ssize_t i = 0; i < parts && fit; i++) {
        sizes[i] = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(tuple, i));
        if (PyErr_Occurred())
            return false;
        fit = sizes[i] >= 1 && sizes[i] <= MOST_STATES;
        total += sizes[i];
    }
    if (!fit || total != (uint64_t)states) {
        PyErr_Format(PyExc_ValueError, "the parts, 1 to %d, each with a state, must add up to the %zd states", MAX_PARTS,
                     (Py_ssize_t)states);
        return false;
    }
    return true;
}

static bool begin(StudentObject *self)
{
    if (self->student.busy)
        PyErr_SetString(PyExc_RuntimeError, "another thread uses this student");
    return !self->student.busy;
}

static PyObject *student_train(StudentObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"obs", "targets", "sizes", "updates", "seed", "share", "total",
                            "frozen_from", "lr", "temperature", "advantage_weight", NULL};
    Student *student = &self->student;
    PyObject *obs, *targets, *sizes;
    Py_ssize_t updates, share;
    unsigned long long seed;
    long long total, frozen_from;
    Run run = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO!n$KnLLddd", names, &obs, &targets, &PyTuple_Type, &sizes,
                                     &updates, &seed, &share, &total, &frozen_from, &run.lr, &run.temperature,
                                     &run.advantage_weight))
        return NULL;
    if (updates < 0 || share < 1 || total < 1 || !(run.temperature > 0)) {
        PyErr_SetString(PyExc_ValueError, "share and total are at least 1, and the temperature is positive");
        return NULL;
    }
    run.seed = seed, run.share = (size_t)share, run.total = total, run.frozen_from = frozen_from;
    Data data = {.parts = (size_t)PyTuple_GET_SIZE(sizes)};
    uint64_t size[MAX_PARTS];
    data.size = size;
    const npy_intp states = read_obs_array(student, obs, &data.obs, &data.raw);
    if (states < 0 || !read_sizes(sizes, states, size))
        return NULL;
    PyArrayObject *rows = array_of(targets, NPY_FLOAT32, "targets", states, targets_stride(student));
    if (rows == NULL)
        return NULL;
    data.targets = PyArray_DATA(rows);
    if (!begin(self))
        return NULL;
    student->busy = true;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t u = 0; u < updates; u++)
        student_update(student, &data, &run);
    Py_END_ALLOW_THREADS
    student->busy = false;
    Py_RETURN_NONE;
}

static PyObject *student_q_method(StudentObject *self, PyObject *object)
{
    Student *student = &self->student;
    const float *obs = NULL;
    const unsigned char *raw = NULL;
    const npy_intp states = read_obs_array(student, object, &obs, &raw);
    if (states < 0 || !begin(self))
        return NULL;
    npy_intp shape[2] = {states, (npy_intp)student->options.width[student->options.layers]};
    PyObject *q = PyArray_SimpleNew(2, shape, NPY_FLOAT32);
    if (q != NULL)
        student_q(student, obs, raw, (size_t)states, PyArray_DATA((PyArrayObject *)q));
    return q;
}

/* Where the arrays of the state begin, in floats. */
static PyObject *student_places(StudentObject *self, PyObject *Py_UNUSED(ignored))
{
    const Student *student = &self->student;
    PyObject *layers = PyList_New(0);
    for (size_t l = 0; layers != NULL && l < student->options.layers; l++) {
        const Layer *layer = &student->layer[l];
        PyObject *entry = Py_BuildValue("nnnnnn", (Py_ssize_t)layer->in_stride, (Py_ssize_t)layer->weight,
                                        (Py_ssize_t)layer->bias, (Py_ssize_t)layer->weight_step,
                                        (Py_ssize_t)layer->input_step, (Py_ssize_t)(layer->gain - student->state));
        if (entry == NULL || PyList_Append(layers, entry) < 0)
            Py_CLEAR(layers);
        Py_XDECREF(entry);
    }
    return layers == NULL ? NULL
                          : Py_BuildValue("nnN", (Py_ssize_t)(student->scale - student->state),
                                          (Py_ssize_t)(student->shift - student->state), layers);
}

static PyObject *get_updates(StudentObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(self->student.updates);
}

static PyMethodDef methods[] = {
    {"train", (PyCFunction)(void (*)(void))student_train, METH_VARARGS | METH_KEYWORDS,
     "Gradient steps, without the interpreter's lock; batches are drawn inside."},
    {"q", (PyCFunction)student_q_method, METH_O, "float32[K, in_stride] or uint8[K, O] -> float32[K, A], as it trains."},
    {"places", (PyCFunction)student_places, METH_NOARGS,
     "(scale, shift, [(in_stride, weight, bias, weight_step, input_step, gain)]): where arrays begin in the state."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef getset[] = {
    {"updates", (getter)get_updates, NULL, "Gradient steps done.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_doc, "A student under distillation; as a buffer it is its own state (bytes of float32)."},
    {Py_tp_new, student_new},
    {Py_tp_dealloc, student_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_bf_getbuffer, student_getbuffer},
    {0, NULL},
};
static PyType_Spec spec = {"nimbleq.native._distill.Student", sizeof(StudentObject), 0, Py_TPFLAGS_DEFAULT, slots};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_distill", .m_size = 0};

PyMODINIT_FUNC PyInit__distill(void)
{
    import_array();
    PyObject *module = PyModule_Create(&definition);
    PyObject *type = module == NULL ? NULL : PyType_FromSpec(&spec);
    if (type == NULL || PyModule_AddObjectRef(module, "Student", type) < 0 ||
        PyModule_AddIntConstant(module, "LANES", LANES) < 0)
        Py_CLEAR(module);
    Py_XDECREF(type);
    return module;
}

/* Python type `nimbleq.native._robust.Network`. What it computes is said in nimbleq/compress/robust.

   Network(inputs, integer, exact, layers, outputs): each layer is (sources, matrices, bias, scale, zero, multiplier,
   shift, low, high, slope, eps, slack, rounds, integer); outputs is int64[A, 2].
     search(low, high, rows, bounds, case, cases, seconds, boxes, careful) -> (verdict, witness or None, boxes)
     lower(low[B, n], high[B, n], rows[R, A]) -> float64[B, R] lower bounds of the rows over each box
   The interpreter's lock is released during a search; any number may run at once. */
#define PY_SSIZE_T_CLEAN
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <Python.h>
#include <numpy/arrayobject.h>

#include "work.h"

typedef struct {
    PyObject_HEAD
    Network net;
    Memory *spare; /* of the last search; the next one takes it */
} NetworkObject;

/* A new reference to a C-contiguous array of this type and number of axes. */
static PyArrayObject *array_of(PyObject *object, int type, int axes)
{
    return (PyArrayObject *)PyArray_FROMANY(object, type, axes, axes, NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED);
}

/* Rows padded to `stride`; NULL with an error set. */
static double *copied(PyObject *object, size_t rows, size_t columns, size_t stride)
{
    PyArrayObject *array = array_of(object, NPY_FLOAT64, rows > 0 ? 2 : 1);
    if (array == NULL)
        return NULL;
    double *made = NULL;
    const size_t lines = rows > 0 ? rows : 1;
    if ((size_t)PyArray_SIZE(array) != lines * columns)
        PyErr_SetString(PyExc_ValueError, "an array of a layer has another size");
    else if ((made = new_doubles(lines * stride)) == NULL)
        PyErr_NoMemory();
    else
        for (size_t r = 0; r < lines; r++)
            memcpy(made + r * stride, (double *)PyArray_DATA(array) + r * columns, columns * sizeof(double));
    Py_DECREF(array);
    return made;
}

/* Whole numbers, or NULL without an error for None. */
static bool copied_whole(PyObject *object, size_t size, int64_t **out)
{
    if (object == Py_None)
        return true;
    PyArrayObject *array = array_of(object, NPY_INT64, 1);
    if (array == NULL)
        return false;
    const bool fits = (size_t)PyArray_SIZE(array) == size;
    if (!fits)
        PyErr_SetString(PyExc_ValueError, "an array of a layer has another size");
    else if ((*out = malloc((size > 0 ? size : 1) * sizeof(int64_t))) == NULL)
        PyErr_NoMemory();
    else
        memcpy(*out, PyArray_DATA(array), size * sizeof(int64_t));
    Py_DECREF(array);
    return fits && *out != NULL;
}

/* Note the places of the factors of a wide matrix whose rows have few: a residual connection, a mean subtracted. */
static bool find_few(Layer *layer, size_t s, size_t stride)
{
    if (stride <= 4 * FEW)
        return true;
    size_t *column = calloc(layer->size * FEW, sizeof *column);
    if (column == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (size_t i = 0; i < layer->size; i++) {
        size_t count = 0;
        for (size_t j = 0; j < stride; j++)
            if (layer->matrix[s][i * stride + j] != 0) {
                if (count == FEW) {
                    free(column);
                    return true;
                }
                column[i * FEW + count++] = j;
            }
        for (size_t j = 0; count < FEW; j++) /* the rest stand for factors that are 0 */
            if (layer->matrix[s][i * stride + j] == 0)
                column[i * FEW + count++] = j;
    }
    layer->column[s] = column;
    return true;
}

static bool read_sources(Network *net, size_t k, PyObject *sources, PyObject *matrices)
{
    Layer *layer = &net->layer[k];
    const Py_ssize_t count = PyTuple_GET_SIZE(sources);
    layer->source = calloc((size_t)count + 1, sizeof *layer->source);
    layer->matrix = calloc((size_t)count + 1, sizeof *layer->matrix);
    layer->column = calloc((size_t)count + 1, sizeof *layer->column);
    if (layer->source == NULL || layer->matrix == NULL || layer->column == NULL) {
        PyErr_NoMemory();
        return false;
    }
    if (count < 1 || PyTuple_GET_SIZE(matrices) != count) {
        PyErr_SetString(PyExc_ValueError, "a layer has a matrix for each source");
        return false;
    }
    for (Py_ssize_t s = 0; s < count; s++) {
        const Py_ssize_t source = PyNumber_AsSsize_t(PyTuple_GET_ITEM(sources, s), PyExc_OverflowError);
        if (source < 0 || (size_t)source > k) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "a layer reads earlier layers only");
            return false;
        }
        layer->source[s] = (size_t)source;
        const size_t width = value_size(net, (size_t)source), stride = value_stride(net, (size_t)source);
        layer->matrix[s] = copied(PyTuple_GET_ITEM(matrices, s), layer->size, width, stride);
        if (layer->matrix[s] == NULL)
            return false;
        if (!find_few(layer, (size_t)s, stride))
            return false;
        layer->sources++;
    }
    return true;
}

static bool read_layer(Network *net, size_t k, PyObject *item)
{
    Layer *layer = &net->layer[k];
    PyObject *sources, *matrices, *bias, *scale, *zero, *multiplier, *shift;
    int rounds, integer;
    if (!PyArg_ParseTuple(item, "O!O!OOOOOdddddpp", &PyTuple_Type, &sources, &PyTuple_Type, &matrices, &bias, &scale,
                          &zero, &multiplier, &shift, &layer->low, &layer->high, &layer->slope, &layer->eps,
                          &layer->slack, &rounds, &integer))
        return false;
    const Py_ssize_t size = PyObject_Length(bias);
    if (size < 1) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a layer is empty");
        return false;
    }
    layer->size = (size_t)size, layer->stride = padded(layer->size);
    layer->start = net->sums;
    layer->rounds = rounds, layer->integer = integer;
    net->sums += layer->stride;
    net->widest = layer->stride > net->widest ? layer->stride : net->widest;
    return (layer->bias = copied(bias, 0, layer->size, layer->stride)) != NULL &&
           (layer->scale = copied(scale, 0, layer->size, layer->stride)) != NULL &&
           (layer->zero = copied(zero, 0, layer->size, layer->stride)) != NULL &&
           copied_whole(multiplier, layer->size, &layer->multiplier) &&
           copied_whole(shift, layer->size, &layer->shift) && read_sources(net, k, sources, matrices);
}

static bool read_outputs(Network *net, PyObject *outputs)
{
    PyArrayObject *places = array_of(outputs, NPY_INT64, 2);
    if (places == NULL)
        return false;
    const size_t count = (size_t)PyArray_DIM(places, 0);
    const int64_t *at = PyArray_DATA(places);
    net->output_layer = calloc(count + 1, sizeof(size_t)), net->output_unit = calloc(count + 1, sizeof(size_t));
    bool ok = PyArray_DIM(places, 1) == 2 && net->output_layer != NULL && net->output_unit != NULL;
    for (size_t o = 0; ok && o < count; o++) {
        ok = at[2 * o] >= 0 && (size_t)at[2 * o] <= net->layers && at[2 * o + 1] >= 0 &&
             (size_t)at[2 * o + 1] < value_size(net, (size_t)at[2 * o]);
        if (ok)
            net->output_layer[o] = (size_t)at[2 * o], net->output_unit[o] = (size_t)at[2 * o + 1];
    }
    net->outputs = count;
    Py_DECREF(places);
    if (!ok)
        PyErr_SetString(PyExc_ValueError, "outputs are places (layer, unit)");
    return ok;
}

static void network_dealloc(NetworkObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (size_t k = 0; k < self->net.layers && self->net.layer != NULL; k++) {
        Layer *layer = &self->net.layer[k];
        for (size_t s = 0; s < layer->sources; s++)
            free(layer->matrix[s]), free(layer->column[s]);
        free(layer->source), free(layer->matrix), free(layer->column), free(layer->bias), free(layer->scale), free(layer->zero);
        free(layer->multiplier), free(layer->shift);
    }
    free(self->net.layer), free(self->net.output_layer), free(self->net.output_unit);
    free_memory(self->spare);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *network_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    Py_ssize_t inputs;
    int integer, exact;
    PyObject *layers, *outputs;
    if (!PyArg_ParseTuple(args, "nppO!O", &inputs, &integer, &exact, &PyTuple_Type, &layers, &outputs))
        return NULL;
    if (inputs < 1) {
        PyErr_SetString(PyExc_ValueError, "a network has inputs");
        return NULL;
    }
    NetworkObject *self = (NetworkObject *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    Network *net = &self->net;
    net->inputs = (size_t)inputs, net->stride = net->widest = padded(net->inputs);
    net->integer = integer, net->exact = exact;
    net->layers = (size_t)PyTuple_GET_SIZE(layers);
    net->layer = calloc(net->layers + 1, sizeof *net->layer);
    bool ok = net->layer != NULL || PyErr_NoMemory() != NULL;
    for (size_t k = 0; ok && k < net->layers; k++)
        ok = read_layer(net, k, PyTuple_GET_ITEM(layers, k));
    if (!ok || !read_outputs(net, outputs)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void keep_memory(NetworkObject *self, Memory *memory)
{
    if (self->spare == NULL)
        self->spare = memory;
    else
        free_memory(memory);
}

/* Run the search without the interpreter's lock. */
static void run(NetworkObject *self, const Question *q, Answer *answer)
{
    Memory *memory = self->spare;
    self->spare = NULL;
    Py_BEGIN_ALLOW_THREADS
    answer->verdict = NO_MEMORY;
    if (memory == NULL)
        memory = new_memory(&self->net);
    if (memory != NULL)
        answer_question(&self->net, q, memory, answer);
    Py_END_ALLOW_THREADS
    keep_memory(self, memory);
}

static PyObject *network_search(NetworkObject *self, PyObject *args)
{
    enum { LOW, HIGH, MATRIX, BOUNDS, CASE, ARRAYS };
    PyObject *given[ARRAYS];
    Py_ssize_t cases;
    double seconds;
    long long boxes;
    int careful;
    if (!PyArg_ParseTuple(args, "OOOOOndLp", &given[LOW], &given[HIGH], &given[MATRIX], &given[BOUNDS], &given[CASE],
                          &cases, &seconds, &boxes, &careful))
        return NULL;
    PyArrayObject *in[ARRAYS] = {NULL}, *witness = NULL;
    bool ok = true;
    for (int i = 0; i < ARRAYS && ok; i++)
        ok = (in[i] = array_of(given[i], i == CASE ? NPY_INT64 : NPY_FLOAT64, i == MATRIX ? 2 : 1)) != NULL;
    const Network *net = &self->net;
    npy_intp inputs = (npy_intp)net->inputs;
    PyObject *result = NULL;
    if (ok) {
        const npy_intp count = PyArray_DIM(in[BOUNDS], 0);
        ok = PyArray_DIM(in[LOW], 0) == inputs && PyArray_DIM(in[HIGH], 0) == inputs &&
             PyArray_DIM(in[MATRIX], 0) == count && PyArray_DIM(in[MATRIX], 1) == (npy_intp)net->outputs &&
             PyArray_DIM(in[CASE], 0) == count && count > 0 && cases > 0;
        const int64_t *row_case = PyArray_DATA(in[CASE]);
        for (npy_intp r = 0; ok && r < count; r++)
            ok = row_case[r] >= 0 && row_case[r] < cases;
        if (!ok)
            PyErr_SetString(PyExc_ValueError, "the question does not fit the network");
        else
            witness = (PyArrayObject *)PyArray_ZEROS(1, &inputs, NPY_FLOAT64, 0);
        if (witness != NULL) {
            const Question q = {
                .low = PyArray_DATA(in[LOW]), .high = PyArray_DATA(in[HIGH]), .rows = PyArray_DATA(in[MATRIX]),
                .bounds = PyArray_DATA(in[BOUNDS]), .row_case = row_case, .count = (size_t)count,
                .cases = (size_t)cases, .seconds = seconds, .most_boxes = boxes, .careful = careful,
            };
            Answer answer = {.witness = PyArray_DATA(witness)};
            run(self, &q, &answer);
            if (answer.verdict == NO_MEMORY)
                PyErr_NoMemory();
            else
                result = Py_BuildValue("iOL", (int)answer.verdict, answer.verdict == SAT ? (PyObject *)witness : Py_None,
                                       (long long)answer.boxes);
        }
    }
    Py_XDECREF(witness);
    for (int i = 0; i < ARRAYS; i++)
        Py_XDECREF(in[i]);
    return result;
}

static PyObject *network_lower(NetworkObject *self, PyObject *args)
{
    PyObject *given[3], *result = NULL;
    if (!PyArg_ParseTuple(args, "OOO", &given[0], &given[1], &given[2]))
        return NULL;
    PyArrayObject *in[3] = {NULL};
    bool ok = true;
    for (int i = 0; i < 3 && ok; i++)
        ok = (in[i] = array_of(given[i], NPY_FLOAT64, 2)) != NULL;
    const Network *net = &self->net;
    if (ok) {
        npy_intp shape[2] = {PyArray_DIM(in[0], 0), PyArray_DIM(in[2], 0)};
        ok = PyArray_DIM(in[0], 1) == (npy_intp)net->inputs && PyArray_DIM(in[1], 1) == (npy_intp)net->inputs &&
             PyArray_DIM(in[1], 0) == shape[0] && PyArray_DIM(in[2], 1) == (npy_intp)net->outputs;
        if (!ok)
            PyErr_SetString(PyExc_ValueError, "the boxes or rows do not fit the network");
        else if ((result = PyArray_ZEROS(2, shape, NPY_FLOAT64, 0)) != NULL) {
            double *bounds = calloc((size_t)shape[1] + 1, sizeof *bounds);
            const Question q = {.low = PyArray_DATA(in[0]), .high = PyArray_DATA(in[1]), .rows = PyArray_DATA(in[2]),
                                .bounds = bounds, .count = (size_t)shape[1]};
            Memory *memory = self->spare;
            self->spare = NULL;
            Py_BEGIN_ALLOW_THREADS
            if (memory == NULL)
                memory = new_memory(net);
            ok = memory != NULL && bounds != NULL &&
                 bound_boxes(net, &q, (size_t)shape[0], memory, PyArray_DATA((PyArrayObject *)result));
            Py_END_ALLOW_THREADS
            free(bounds);
            keep_memory(self, memory);
            if (!ok) {
                Py_CLEAR(result);
                PyErr_NoMemory();
            }
        }
    }
    for (int i = 0; i < 3; i++)
        Py_XDECREF(in[i]);
    return result;
}

static PyMethodDef methods[] = {
    {"lower", (PyCFunction)network_lower, METH_VARARGS, "Lower bounds of rows over boxes: float64[B, R]."},
    {"search", (PyCFunction)network_search, METH_VARARGS, "Answer a question: (verdict, witness or None, boxes)."},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot slots[] = {
    {Py_tp_doc, "A network whose outputs are bounded over boxes."},
    {Py_tp_new, network_new},
    {Py_tp_dealloc, network_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};
static PyType_Spec spec = {"nimbleq.native._robust.Network", sizeof(NetworkObject), 0, Py_TPFLAGS_DEFAULT, slots};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_robust", .m_size = 0};

PyMODINIT_FUNC PyInit__robust(void)
{
    import_array();
    PyObject *module = PyModule_Create(&definition);
    PyObject *type = module == NULL ? NULL : PyType_FromSpec(&spec);
    const bool ok = type != NULL && PyModule_AddObjectRef(module, "Network", type) == 0;
    Py_XDECREF(type);
    if (!ok)
        Py_CLEAR(module);
    return module;
}

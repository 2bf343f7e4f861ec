/* Extension module `nimbleq.native._stream`: stream Q(lambda), by the very code that is exported.
 *
 * Compile without contraction to fused multiply-adds: so the exported code gives the same bits.
 */
#define PY_SSIZE_T_CLEAN
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <Python.h>
#include <numpy/arrayobject.h>

#include "../kernels/sqrt.h"
#include "../kernels/stream.h"

enum { CLIP, GAMMA, DECAY, STEP, BOUND, NORMALISES, LAYER_NORM, SETTINGS };

/* Data of a C array of `type`, at least (or, with `exact`, just) `size` items; NULL with an error set. */
static void *data_of(PyObject *object, int type, npy_intp size, int exact)
{
    PyArrayObject *array = (PyArrayObject *)object;
    if (!PyArray_Check(object) || PyArray_TYPE(array) != type || !PyArray_ISCARRAY(array) ||
        PyArray_SIZE(array) < size || (exact && PyArray_SIZE(array) != size)) {
        PyErr_SetString(PyExc_ValueError, "an array has another type, size or layout");
        return NULL;
    }
    return PyArray_DATA(array);
}

/* From widths int32[layers + 1] and settings float32[SETTINGS]; 0 with an error set. */
static int network(nq_stream *net, PyObject *widths, PyObject *settings)
{
    const int *sizes = data_of(widths, NPY_INT32, 2, 0);
    const float *values = sizes ? data_of(settings, NPY_FLOAT32, SETTINGS, 1) : NULL;
    if (!values)
        return 0;
    net->widths = sizes;
    net->layers = (int)PyArray_SIZE((PyArrayObject *)widths) - 1;
    for (int l = 0; l <= net->layers; ++l)
        if (sizes[l] < 1 || sizes[l] > 1 << 14) {
            PyErr_SetString(PyExc_ValueError, "a layer is empty or too wide");
            return 0;
        }
    net->clip = values[CLIP];
    net->gamma = values[GAMMA];
    net->decay = values[DECAY];
    net->step = values[STEP];
    net->bound = values[BOUND];
    net->normalises = values[NORMALISES] != 0.0f;
    net->layer_norm = values[LAYER_NORM] != 0.0f;
    return 1;
}

static npy_intp work_size(const nq_stream *net)
{
    npy_intp size = 2 * (npy_intp)net->widths[0], most = net->widths[0];
    for (int l = 1; l <= net->layers; ++l) {
        size += 2 * (npy_intp)net->widths[l] + 1;
        most = net->widths[l] > most ? net->widths[l] : most;
    }
    return size + 2 * most;
}

static npy_intp state_size(const nq_stream *net) { return nq_stream_first(net) + 2 * (npy_intp)nq_stream_weights(net); }

/* sizes(widths, settings) -> (state, work) in floats. */
static PyObject *sizes(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    nq_stream net;
    (void)module;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "sizes takes two arrays");
        return NULL;
    }
    return network(&net, args[0], args[1]) ? Py_BuildValue("nn", state_size(&net), work_size(&net)) : NULL;
}

/* learn(widths, settings, state, work, obs, action, reward, terminated, over, next_obs, legal, next_legal) -> error. */
static PyObject *learn(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    nq_stream net;
    (void)module;
    if (count != 12) {
        PyErr_SetString(PyExc_TypeError, "learn takes twelve arguments");
        return NULL;
    }
    if (!network(&net, args[0], args[1]))
        return NULL;
    const int actions = net.widths[net.layers];
    float *state = data_of(args[2], NPY_FLOAT32, state_size(&net), 1);
    float *work = state ? data_of(args[3], NPY_FLOAT32, work_size(&net), 1) : NULL;
    const float *obs = work ? data_of(args[4], NPY_FLOAT32, net.widths[0], 1) : NULL;
    const float *next_obs = obs ? data_of(args[9], NPY_FLOAT32, net.widths[0], 1) : NULL;
    if (!next_obs)
        return NULL;
    const uint8_t *legal[2] = {NULL, NULL};
    for (int i = 0; i < 2; ++i)
        if (args[10 + i] != Py_None && !(legal[i] = data_of(args[10 + i], NPY_BOOL, actions, 1)))
            return NULL;
    const long action = PyLong_AsLong(args[5]), terminated = PyLong_AsLong(args[7]), over = PyLong_AsLong(args[8]);
    const double reward = PyFloat_AsDouble(args[6]);
    if (PyErr_Occurred())
        return NULL;
    if (action < 0 || action >= actions) {
        PyErr_SetString(PyExc_ValueError, "there is no such action");
        return NULL;
    }
    return PyFloat_FromDouble((double)nq_stream_learn(
        &net, state, work, obs, (int)action, (float)reward, terminated != 0, over != 0, next_obs, legal[0], legal[1]));
}

/* q(widths, settings, state, work, obs float32[B, O], values float32[B, A]): fills `values`. */
static PyObject *q(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    nq_stream net;
    (void)module;
    if (count != 6) {
        PyErr_SetString(PyExc_TypeError, "q takes six arrays");
        return NULL;
    }
    if (!network(&net, args[0], args[1]))
        return NULL;
    const int size = net.widths[0], actions = net.widths[net.layers];
    const float *state = data_of(args[2], NPY_FLOAT32, state_size(&net), 1);
    float *work = state ? data_of(args[3], NPY_FLOAT32, work_size(&net), 1) : NULL;
    const float *obs = work ? data_of(args[4], NPY_FLOAT32, 0, 0) : NULL;
    if (!obs)
        return NULL;
    const npy_intp rows = PyArray_SIZE((PyArrayObject *)args[4]) / size;
    float *values = data_of(args[5], NPY_FLOAT32, rows * actions, 1);
    if (!values)
        return NULL;
    for (npy_intp row = 0; row < rows; ++row) {
        nq_stream_normal(&net, state, obs + row * size, work);
        const float *one = nq_stream_forward(&net, state + nq_stream_first(&net), work, work + 2 * size);
        for (int a = 0; a < actions; ++a) values[row * actions + a] = one[a];
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"sizes", (PyCFunction)(void (*)(void))sizes, METH_FASTCALL, "Floats of state and work."},
    {"learn", (PyCFunction)(void (*)(void))learn, METH_FASTCALL, "One update; the TD error."},
    {"q", (PyCFunction)(void (*)(void))q, METH_FASTCALL, "Action values."},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_stream", .m_size = 0, .m_methods = functions};

PyMODINIT_FUNC PyInit__stream(void)
{
    import_array();
    return PyModule_Create(&definition);
}

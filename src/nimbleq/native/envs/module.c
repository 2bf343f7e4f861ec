/* Extension module `nimbleq.native._envs`: acting, and steps of environments as Gymnasium computes them.
 *
 * Compile without contraction to fused multiply-adds: those round differently.
 */
#define NQ_ENVS_MODULE
#include "arrays.h"

/* epsilon_greedy(draw float64[N], greedy int64[N], actions, epsilon): replaces what explores in `greedy`. */
static PyObject *epsilon_greedy(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 4 || !PyArray_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "epsilon_greedy takes two arrays and two numbers");
        return NULL;
    }
    const npy_intp size = PyArray_SIZE((PyArrayObject *)args[0]);
    const double *draw = data_of(args[0], NPY_FLOAT64, size);
    npy_int64 *greedy = data_of(args[1], NPY_INT64, size);
    const long actions = PyLong_AsLong(args[2]);
    const double epsilon = PyFloat_AsDouble(args[3]);
    if (PyErr_Occurred())
        return NULL;
    for (npy_intp i = 0; i < size; i++)
        if (draw[i] < epsilon) {
            const npy_int64 random = (npy_int64)(draw[i] / epsilon * (double)actions);
            greedy[i] = random < actions ? random : actions - 1;
        }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"epsilon_greedy", (PyCFunction)(void (*)(void))epsilon_greedy, METH_FASTCALL, "Exploration, in place."},
    {"cartpole_reset", (PyCFunction)(void (*)(void))cartpole_reset, METH_FASTCALL, "The start of an episode."},
    {"cartpole_step", (PyCFunction)(void (*)(void))cartpole_step, METH_FASTCALL, "One step of some environments."},
    {"lunarlander_step", (PyCFunction)(void (*)(void))lunarlander_step, METH_FASTCALL, "One step of some worlds."},
    {"linear_greedy", (PyCFunction)(void (*)(void))linear_greedy, METH_FASTCALL, "Actions of many linear policies."},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_envs", .m_size = 0, .m_methods = functions};

PyMODINIT_FUNC PyInit__envs(void)
{
    import_array();
    return PyModule_Create(&definition);
}

/* nimbleq.native._cpu: what this processor can do, so that the other extensions can be chosen when they are imported. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if defined(__x86_64__)
static int v3(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt");
}

static int v4(void)
{
    return v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

/* The levels of the x86-64 psABI that it has, the highest first. */
static PyObject *levels(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
#if defined(__x86_64__)
    if (v4()) return Py_BuildValue("(ss)", "x86_64_v4", "x86_64_v3");
    if (v3()) return Py_BuildValue("(s)", "x86_64_v3");
#endif
    return Py_BuildValue("()");
}

static PyMethodDef functions[] = {
    {"levels", levels, METH_NOARGS, "levels() -> names of the variants that this processor can run, the fastest first"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_cpu", "What this processor can do.", -1, functions,
                                    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__cpu(void)
{
    return PyModule_Create(&module);
}

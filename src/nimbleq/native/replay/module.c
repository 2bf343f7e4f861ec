/* Extension module `nimbleq.native._replay`: sum tree, frames, rows and bits of a replay memory. */
#define NQ_ARRAY_OWNER
#include "arrays.h"

static PyMethodDef functions[] = {
    {"share", (PyCFunction)(void (*)(void))frames_share, METH_FASTCALL, "Equal planes of two batches of images."},
    {"remember", (PyCFunction)(void (*)(void))rows_remember, METH_FASTCALL, "One step into windows and ring."},
    {"gather", (PyCFunction)(void (*)(void))rows_gather, METH_FASTCALL, "Rows of several arrays."},
    {"pack", (PyCFunction)(void (*)(void))bits_pack, METH_FASTCALL, "Values of two kinds as bits."},
    {"unpack", (PyCFunction)(void (*)(void))bits_unpack, METH_FASTCALL, "Bits as the values that they stand for."},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_replay", .m_size = 0, .m_methods = functions};

static bool add_type(PyObject *module, const char *name, PyType_Spec *spec)
{
    PyObject *type = PyType_FromSpec(spec);
    const bool ok = type != NULL && PyModule_AddObjectRef(module, name, type) == 0;
    Py_XDECREF(type);
    return ok;
}

PyMODINIT_FUNC PyInit__replay(void)
{
    import_array();
    bits_begin();
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && !(add_type(module, "Tree", &tree_spec) && add_type(module, "Frames", &frames_spec)))
        Py_CLEAR(module);
    return module;
}

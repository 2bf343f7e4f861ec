/* The equations of motion of CartPole (Barto, Sutton & Anderson 1983), written down operation by operation as Gymnasium's
 * CartPole-v1 computes them in double precision. */
#include "arrays.h"
#include "seeded.h"
#include <math.h>

static const double GRAVITY = 9.8, POLE_MASS = 0.1, TOTAL_MASS = 0.1 + 1.0, HALF_LENGTH = 0.5, FORCE = 10.0;
static const double SECONDS = 0.02, TRACK = 2.4, PI = 3.141592653589793;

typedef struct {
    double x, x_dot, theta, theta_dot;
} Cart;

static void move(Cart *cart, bool right)
{
    const double mass_length = POLE_MASS * HALF_LENGTH, force = right ? FORCE : -FORCE;
    const double cosine = cos(cart->theta), sine = sin(cart->theta);
    const double push = (force + mass_length * (cart->theta_dot * cart->theta_dot) * sine) / TOTAL_MASS;
    const double turn = (GRAVITY * sine - cosine * push) /
                        (HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * (cosine * cosine) / TOTAL_MASS));
    const double gain = push - mass_length * turn * cosine / TOTAL_MASS;
    cart->x += SECONDS * cart->x_dot;
    cart->x_dot += SECONDS * gain;
    cart->theta += SECONDS * cart->theta_dot;
    cart->theta_dot += SECONDS * turn;
}

static bool fallen(const Cart *cart)
{
    return fabs(cart->x) > TRACK || fabs(cart->theta) > 12.0 * 2.0 * PI / 360.0;
}

static void observe(const Cart *cart, float *obs)
{
    obs[0] = (float)cart->x, obs[1] = (float)cart->x_dot, obs[2] = (float)cart->theta, obs[3] = (float)cart->theta_dot;
}

/* cartpole_reset(state float64[N, 4], time int64[N], env, seed, obs float32[4]): starts the episode `seed` in `env`: changes
 * its state and time, fills the last. */
PyObject *cartpole_reset(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 5 || !PyArray_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "cartpole_reset takes three arrays, an environment and a seed");
        return NULL;
    }
    const npy_intp total = PyArray_SIZE((PyArrayObject *)args[1]);
    Cart *cart = data_of(args[0], NPY_FLOAT64, 4 * total);
    npy_int64 *time = data_of(args[1], NPY_INT64, total);
    const Py_ssize_t env = PyLong_AsSsize_t(args[2]);
    const unsigned long long seed = PyLong_AsUnsignedLongLong(args[3]);
    float *obs = data_of(args[4], NPY_FLOAT32, 4);
    if (PyErr_Occurred())
        return NULL;
    if (env < 0 || env >= total) {
        PyErr_SetString(PyExc_ValueError, "cartpole_reset: no such environment");
        return NULL;
    }
    Generator generator = seeded(seed);
    Cart *started = &cart[env];
    started->x = uniform_of(&generator, -0.05, 0.05), started->x_dot = uniform_of(&generator, -0.05, 0.05);
    started->theta = uniform_of(&generator, -0.05, 0.05), started->theta_dot = uniform_of(&generator, -0.05, 0.05);
    time[env] = 0;
    observe(started, obs);
    Py_RETURN_NONE;
}

/* cartpole_step(state float64[N, 4], time int64[N], envs int64[L], actions int64[L], limit, obs float32[L, 4],
 * terminated bool[L], truncated bool[L]): steps the environments `envs` of N: changes their state and
 * time, fills the last three. */
PyObject *cartpole_step(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 8 || !PyArray_Check(args[1]) || !PyArray_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "cartpole_step takes 8 arguments, arrays but for the limit");
        return NULL;
    }
    const npy_intp total = PyArray_SIZE((PyArrayObject *)args[1]), stepped = PyArray_SIZE((PyArrayObject *)args[2]);
    const long limit = PyLong_AsLong(args[4]);
    Cart *cart = data_of(args[0], NPY_FLOAT64, 4 * total);
    npy_int64 *time = data_of(args[1], NPY_INT64, total);
    const npy_int64 *env = data_of(args[2], NPY_INT64, stepped), *action = data_of(args[3], NPY_INT64, stepped);
    float *obs = data_of(args[5], NPY_FLOAT32, 4 * stepped);
    npy_bool *terminated = data_of(args[6], NPY_BOOL, stepped), *truncated = data_of(args[7], NPY_BOOL, stepped);
    if (PyErr_Occurred())
        return NULL;
    for (npy_intp i = 0; i < stepped; i++)
        if (env[i] < 0 || env[i] >= total || (action[i] != 0 && action[i] != 1)) {
            PyErr_SetString(PyExc_ValueError, "cartpole_step: no such environment or action");
            return NULL;
        }
    for (npy_intp i = 0; i < stepped; i++) {
        Cart *moved = &cart[env[i]];
        move(moved, action[i] == 1);
        observe(moved, obs + 4 * i);
        terminated[i] = fallen(moved);
        truncated[i] = ++time[env[i]] >= limit;
    }
    Py_RETURN_NONE;
}

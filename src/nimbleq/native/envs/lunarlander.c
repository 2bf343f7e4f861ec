/* A step of Gymnasium's LunarLander-v3, but for the physics, for which the environment's own world is called.
 *
 * The lander is read and pushed where Box2D keeps it in memory: see `Body`, whose layout the caller has compared with
 * what Box2D says of a body. Every operation is in the order of the scalar environment, in its precision. */
#include "arrays.h"
#include <math.h>
#include <stdint.h>

/* What Box2D 2.3 keeps of a body (b2Body). */
typedef struct {
    int32_t type;
    uint16_t flags;
    int32_t island;
    float x, y, sine, cosine;
    float local_x, local_y, last_x, last_y, center_x, center_y, last_angle, angle, fraction;
    float velocity_x, velocity_y, turning;
    float force_x, force_y, torque;
    void *world, *previous, *next, *fixtures;
    int32_t fixture_count;
    void *joints, *contacts;
    float mass, inverse_mass, inertia, inverse_inertia;
} Body;

enum { AWAKE = 2, MAIN = 2, ACTIONS = 4, OBS = 8, WORLD = 6 };

/* The constants of Gymnasium's environment, in its units: pixels, frames per second, and impulses. */
static const double SCALE = 30.0, FPS = 50.0, HALF_WIDTH = 600.0 / 30.0 / 2, HALF_HEIGHT = 400.0 / 30.0 / 2;
static const double MAIN_POWER = 13.0, SIDE_POWER = 0.6, MAIN_Y = 4.0, SIDE_AWAY = 12.0, SIDE_HEIGHT = 14.0;
static const double SIDE_Y = 17.0;
static const double FUEL[ACTIONS] = {0.0, 0.03, 0.30, 0.03};

/* One world: its lander, `Step` and its arguments, the environment, both legs, and what draws a number below 1. */
typedef struct {
    Body *lander;
    PyObject *step, *env, *left, *right, *draw;
} World;

typedef struct {
    PyObject *ground_contact, *game_over;
} Names;

/* b2Body::ApplyLinearImpulse */
static void push(Body *body, float impulse_x, float impulse_y, float at_x, float at_y)
{
    if ((body->flags & AWAKE) == 0)
        return;
    body->velocity_x += body->inverse_mass * impulse_x;
    body->velocity_y += body->inverse_mass * impulse_y;
    const float arm_x = at_x - body->center_x, arm_y = at_y - body->center_y;
    body->turning += body->inverse_inertia * (arm_x * impulse_y - arm_y * impulse_x);
}

/* The impulse of an engine, a little off its axis by `along` and `across`. */
static void fire(Body *lander, npy_int64 action, double along, double across)
{
    if (action == 0)
        return;
    const double angle = lander->angle, x = lander->x, y = lander->y, sine = sin(angle), cosine = cos(angle);
    double power, off_x, off_y, at_x, at_y;
    if (action == MAIN) {
        const double depth = MAIN_Y / SCALE + 2 * along;
        power = MAIN_POWER;
        off_x = sine * depth - cosine * across, off_y = -cosine * depth - sine * across;
        at_x = x + off_x, at_y = y + off_y;
    } else {
        const double away = 3 * across + (double)(action - 2) * SIDE_AWAY / SCALE;
        power = SIDE_POWER;
        off_x = sine * along - cosine * away, off_y = -cosine * along - sine * away;
        at_x = x + off_x - sine * SIDE_Y / SCALE, at_y = y + off_y + cosine * SIDE_HEIGHT / SCALE;
    }
    push(lander, (float)(-off_x * power), (float)(-off_y * power), (float)at_x, (float)at_y);
}

/* The number that a call without arguments returns; -1 with an error set. */
static double drawn(PyObject *draw)
{
    PyObject *number = PyObject_CallNoArgs(draw);
    const double value = number ? PyFloat_AsDouble(number) : -1.0;
    Py_XDECREF(number);
    return value;
}

/* An attribute as 0 or 1; -1 with an error set. */
static int flag_of(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    const int flag = value ? PyObject_IsTrue(value) : -1;
    Py_XDECREF(value);
    return flag;
}

/* float64[8] in the environment's units. */
static void observe(const Body *lander, double pad, int left, int right, double *state)
{
    state[0] = ((double)lander->x - HALF_WIDTH) / HALF_WIDTH;
    state[1] = ((double)lander->y - pad) / HALF_HEIGHT;
    state[2] = (double)lander->velocity_x * HALF_WIDTH / FPS;
    state[3] = (double)lander->velocity_y * HALF_HEIGHT / FPS;
    state[4] = (double)lander->angle;
    state[5] = 20.0 * (double)lander->turning / FPS;
    state[6] = (double)left;
    state[7] = (double)right;
}

/* The potential whose differences are the reward: near, slow, upright, on its legs. */
static double shaping_of(const double *state)
{
    double shaping = -100 * sqrt(state[0] * state[0] + state[1] * state[1]);
    shaping -= 100 * sqrt(state[2] * state[2] + state[3] * state[3]);
    shaping -= 100 * fabs(state[4]);
    shaping += 10 * state[6];
    shaping += 10 * state[7];
    return shaping;
}

static int world_of(PyObject *worlds, npy_int64 index, World *world)
{
    PyObject *row = PyList_GetItem(worlds, (Py_ssize_t)index); /* borrowed */
    if (!row || !PyTuple_Check(row) || PyTuple_GET_SIZE(row) != WORLD) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "lunarlander_step: that environment was never reset");
        return 0;
    }
    world->lander = PyLong_AsVoidPtr(PyTuple_GET_ITEM(row, 0));
    world->step = PyTuple_GET_ITEM(row, 1), world->env = PyTuple_GET_ITEM(row, 2);
    world->left = PyTuple_GET_ITEM(row, 3), world->right = PyTuple_GET_ITEM(row, 4);
    world->draw = PyTuple_GET_ITEM(row, 5);
    return world->lander != NULL;
}

/* lunarlander_step(worlds list[N] of (lander's address, Step, environment, leg, leg, draw), near, far, height,
 * envs int64[L], actions int64[L], shaping float64[N], pad float64[N], obs float32[L, 8], reward float32[L],
 * terminated bool[L]): steps the environments `envs` of N: changes their worlds and potentials, fills the last three.
 * `near` is the tuple of arguments of Step, `far` that of landers more than `height` above the pad, as they see it. */
PyObject *lunarlander_step(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 11 || !PyList_Check(args[0]) || !PyTuple_Check(args[1]) || !PyTuple_Check(args[2]) ||
        !PyArray_Check(args[4])) {
        PyErr_SetString(PyExc_TypeError, "lunarlander_step takes a list, two tuples, a number and seven arrays");
        return NULL;
    }
    const npy_intp total = PyList_GET_SIZE(args[0]), stepped = PyArray_SIZE((PyArrayObject *)args[4]);
    const double height = PyFloat_AsDouble(args[3]);
    const npy_int64 *env = data_of(args[4], NPY_INT64, stepped), *action = data_of(args[5], NPY_INT64, stepped);
    double *shaping = data_of(args[6], NPY_FLOAT64, total), *pad = data_of(args[7], NPY_FLOAT64, total);
    float *obs = data_of(args[8], NPY_FLOAT32, OBS * stepped), *reward = data_of(args[9], NPY_FLOAT32, stepped);
    npy_bool *terminated = data_of(args[10], NPY_BOOL, stepped);
    if (PyErr_Occurred())
        return NULL;
    for (npy_intp i = 0; i < stepped; i++)
        if (env[i] < 0 || env[i] >= total || action[i] < 0 || action[i] >= ACTIONS) {
            PyErr_SetString(PyExc_ValueError, "lunarlander_step: no such environment or action");
            return NULL;
        }
    const Names names = {PyUnicode_InternFromString("ground_contact"), PyUnicode_InternFromString("game_over")};
    npy_intp i = 0;
    for (; i < stepped && names.ground_contact && names.game_over; i++) {
        World world;
        if (!world_of(args[0], env[i], &world))
            break;
        const double along = (2.0 * drawn(world.draw) - 1.0) / SCALE;
        const double across = (2.0 * drawn(world.draw) - 1.0) / SCALE;
        if (PyErr_Occurred())
            break;
        fire(world.lander, action[i], along, across);
        const int high = ((double)world.lander->y - pad[env[i]]) / HALF_HEIGHT > height;
        PyObject *done = PyObject_CallObject(world.step, args[high ? 2 : 1]);
        Py_XDECREF(done);
        const int left = done ? flag_of(world.left, names.ground_contact) : -1;
        const int right = left < 0 ? -1 : flag_of(world.right, names.ground_contact);
        const int crashed = right < 0 ? -1 : flag_of(world.env, names.game_over);
        if (crashed < 0)
            break;
        double state[OBS];
        observe(world.lander, pad[env[i]], left, right, state);
        for (int k = 0; k < OBS; k++)
            obs[OBS * i + k] = (float)state[k];
        const double potential = shaping_of(state);
        double gain = potential - shaping[env[i]] - FUEL[action[i]];
        shaping[env[i]] = potential;
        const int lost = crashed || fabs(state[0]) >= 1.0, rests = (world.lander->flags & AWAKE) == 0;
        if (lost)
            gain = -100.0;
        if (rests)
            gain = 100.0;
        reward[i] = (float)gain;
        terminated[i] = lost || rests;
    }
    Py_XDECREF(names.ground_contact);
    Py_XDECREF(names.game_over);
    if (i < stepped)
        return NULL;
    Py_RETURN_NONE;
}

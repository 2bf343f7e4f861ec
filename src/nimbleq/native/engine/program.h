/* A policy as a flat program: steps over places in one arena, and constants. Python writes it from a graph
   (nimbleq/deploy/prebuilt); program.c reads it and refuses one that could leave its memory.

   Images lie as (H, W, C). A place is a byte offset in the arena, or NQ_OBS: what the caller gave. */
#ifndef NQ_ENGINE_PROGRAM_H
#define NQ_ENGINE_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

enum { NQ_F32, NQ_I32, NQ_I16, NQ_I8, NQ_U8 }; /* types of elements */
enum { NQ_MAX, NQ_AVERAGE, NQ_SUM };            /* of Pool */
enum { NQ_OBS = -1 };

/* Sums over windows: a Linear is one with a single window, which is the whole input. Window (r, s) begins at element
   r step_y + s step_x of x and consists of `runs` runs of `run` neighbours, `run_step` elements apart. */
typedef struct {
    int32_t rows, cols, step_y, step_x, runs, run, run_step;
    int32_t out;              /* sums of a window */
    int32_t block;            /* weights are stored in blocks of so many outputs, a multiple of 16 up to 64 */
    int32_t skips;            /* skips inputs that are 0: one window of one run */
    int32_t proven;           /* of bytes: sums of two products fit int16 */
    int32_t requantizes;      /* to type y; else int32 sums are stored */
    int32_t zero_point, low, high;
    int32_t function;         /* an activation of kernels/activations.h */
    int32_t scratch;          /* place of the inputs that are not 0 */
    int32_t type_x, type_y;
    int32_t entries;          /* stored weights, of a sparse step */
} Sums;

/* Sums that every input which is not 0 is added to, where it is found. They lie in a grid with room around: each input k
   begins at element place[k] of it, with its weights at from[k], and goes through `lines` runs of `run` sums, which are
   `step` apart. Output (r, s) is at first + r step + s width. A Linear is one line, one output pixel. */
typedef struct {
    int32_t inputs, lines, run, step, pixels, width, first, rows, cols, out;
    int32_t requantizes, zero_point, low, high, function;
    int32_t scratch; /* place of the grid */
    int32_t type_x, type_y, weights;
} Scatter;

typedef struct { int32_t item, repeat, rows, cols; } Permute; /* y[j rows + i] = x[i cols + j] */
typedef struct { int32_t item, outer, part, x_start, x_step, y_start, y_step; } Copy; /* in elements */
typedef struct { int32_t count, type_x, type_y, offset; } Convert;                    /* y = x + offset */
typedef struct { int32_t type, height, line, above, beside, value; } Border;          /* `line`, `beside` in elements */
typedef struct { int32_t count, period, type_x, type_y, zero_point, low, high, function, other, atoms; } Each;
typedef struct {
    int32_t function, type, channels, height, width, rows, cols, kernel_y, kernel_x, stride_y, stride_x, padding_y,
        padding_x;
} Pool;
typedef struct { int32_t features, depth, real, actions, leaf_is_action, type_x, type_y; } Tree;
typedef struct { int32_t count, type_x, masked; } ArgMax;

enum { NQ_SIZES = 20, NQ_REALS = 3, NQ_CONSTANTS = 6, NQ_WORDS = 3 + NQ_SIZES + NQ_REALS + NQ_CONSTANTS };

typedef struct {
    char *arena;
    const void *obs;
    const uint8_t *mask;
    int action;
} Run;

typedef struct Step Step;
typedef void (*Kernel)(const Step *, Run *);

struct Step {
    Kernel kernel;
    int32_t x, y; /* places */
    union {
        int32_t size[NQ_SIZES];
        Sums sums;
        Scatter scatter;
        Permute permute;
        Copy copy;
        Convert convert;
        Border border;
        Each each;
        Pool pool;
        Tree tree;
        ArgMax argmax;
    };
    float real[NQ_REALS];
    const void *constant[NQ_CONSTANTS]; /* NULL where there is none */
    int32_t op;
};

/* What a step does, in the order of nimbleq.deploy.prebuilt.program.OPS. */
enum {
    NQ_PERMUTE, NQ_COPY, NQ_CONVERT, NQ_BORDER, NQ_AFFINE, NQ_ACTIVATE, NQ_TANH, NQ_ADD, NQ_DUELING, NQ_EXPECTATION,
    NQ_LAYER_NORM, NQ_POOL, NQ_QUANTIZE, NQ_DEQUANTIZE, NQ_REQUANTIZE, NQ_SUMS_F32, NQ_DOTS_F32, NQ_SUMS_U8, NQ_SUMS_I16,
    NQ_SPARSE_F32, NQ_SPARSE_INT, NQ_SCATTER_F32, NQ_SCATTER_INT, NQ_OBLIQUE_TREE, NQ_AXIS_TREE, NQ_ARGMAX, NQ_OPS
};

enum { NQ_MAGIC = 0x3151514e };

/* The first words of a program. */
typedef struct {
    int32_t magic, obs_count, obs_type, actions, masked, arena_bytes, q, trunk, action, values, constant_bytes;
} Head;

typedef struct {
    Head head;
    Step *step; /* those of the trunk, of the action, of the action values */
    char *constants;
    double work; /* about how many multiplications a decision takes */
} Program;

/* A new program out of `size` bytes with the kernels of `isa`, or NULL and in `why` what is wrong with them. */
Program *nq_program_new(const char *bytes, size_t size, const Kernel *isa, const char **why);
void nq_program_free(Program *program);

/* The action, or -1 for an observation that is refused (or a mask that allows nothing). The arena is aligned to 64. */
int nq_program_act(const Program *program, char *arena, const void *obs, const uint8_t *mask);

/* Action values; 0, or -1 for an observation that is refused. */
int nq_program_q(const Program *program, char *arena, const void *obs, float *q);

/* Why a step could leave its memory; NULL: it cannot. `constant_bytes` counts what each constant has behind it. */
const char *nq_check_step(const Step *step, const Head *head, const int64_t *constant_bytes);

/* The kernels of "portable", "avx2" or "avx512-vnni"; NULL where this processor cannot run them. */
const Kernel *nq_kernels(const char *isa);

#endif

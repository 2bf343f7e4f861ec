/* Float vectors of the widest width that the compiler may use, by GCC/clang vector extensions.
 *
 * LANES floats per vector; TILE vectors of sums stay in registers in a product (see product.h); BLOCK floats are the
 * rows in which weights and activations are stored, the same on every machine.
 */
#ifndef NIMBLEQ_LEARNER_VEC_H
#define NIMBLEQ_LEARNER_VEC_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#define TILE 4
#elif defined(__AVX__)
#define LANES 8
#define TILE 8
#elif defined(__aarch64__)
#define LANES 4
#define TILE 16
#else
#define LANES 4
#define TILE 8
#endif
#define BLOCK 64
#define ALIGNMENT 64

#define INLINE static inline __attribute__((always_inline))

/* Before a loop with a constant count whose arrays are to live in registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef vf vf_in_memory __attribute__((may_alias));

INLINE vf load(const float *p) { return *(const vf_in_memory *)p; }
INLINE void store(float *p, vf x) { *(vf_in_memory *)p = x; }
INLINE vf splat(float x) { return x - (vf){0}; }

/* Lanes i < count. */
INLINE vi lanes_below(size_t count)
{
    static const int32_t lane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    vi index;
    __builtin_memcpy(&index, lane, sizeof index);
    return index < (int32_t)(count < LANES ? count : LANES);
}

/* mask ? a : b, lane by lane; a mask lane is 0 or -1. */
INLINE vf choose(vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }

/* x where it is positive or NaN, else 0: a NaN must reach the loss, as it does in PyTorch. */
INLINE vf relu(vf x) { return (vf)((vi)x & ~(x <= 0.0f)); }

/* Bit i is set where lane i is not zero; NaN is not. */
INLINE uint64_t nonzero_lanes(vf x)
{
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_NEQ_UQ);
#elif defined(__AVX__)
    return (uint64_t)_mm256_movemask_ps((__m256)(x != 0.0f));
#elif defined(__SSE__)
    return (uint64_t)_mm_movemask_ps((__m128)(x != 0.0f));
#else
    const vi differs = x != 0.0f;
    uint64_t bits = 0;
    for (int i = 0; i < LANES; i++)
        bits |= (uint64_t)(differs[i] & 1) << i;
    return bits;
#endif
}

INLINE vf vabs(vf x) { return (vf)((vi)x & 0x7fffffff); }

INLINE vf clamp(vf x, float limit)
{
    const vf high = splat(limit);
    x = choose(x > high, high, x);
    return choose(x < -high, -high, x);
}

INLINE vf vsqrt(vf x)
{
#if defined(__AVX512F__)
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX__)
    return (vf)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE__)
    return (vf)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
    return (vf)vsqrtq_f32((float32x4_t)x);
#else
    for (int i = 0; i < LANES; i++)
        x[i] = sqrtf(x[i]);
    return x;
#endif
}

/* Sum of the lanes, in one fixed order. */
INLINE float sum(vf x)
{
    float total[LANES];
    __builtin_memcpy(total, &x, sizeof total);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            total[i] += total[i + half];
    return total[0];
}

/* Denormals cost ~100 cycles each and long runs make many (Adam's moments of dead units): they are flushed to zero
 * while a step runs and the caller's mode is put back after it. */
typedef uint64_t FloatMode;

INLINE FloatMode flush_denormals(void)
{
#if defined(__SSE__)
    const unsigned old = _mm_getcsr();
    _mm_setcsr(old | 0x8040u); /* FTZ | DAZ */
    return old;
#elif defined(__aarch64__)
    uint64_t old;
    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    __asm__ volatile("msr fpcr, %0" : : "r"(old | (1ull << 24)));
    return old;
#else
    return 0;
#endif
}

INLINE void restore_float_mode(FloatMode mode)
{
#if defined(__SSE__)
    _mm_setcsr((unsigned)mode);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#else
    (void)mode;
#endif
}

#endif

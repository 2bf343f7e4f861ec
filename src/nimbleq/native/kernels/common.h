/* Vector types and helpers. NQ_SCALAR forces plain C: the same integers, only slower. */
#if defined(__GNUC__) && !defined(NQ_SCALAR)
#define NQ_VECTOR 1
#if defined(__AVX2__) && defined(__FMA__)
#define NQ_AVX2 1
#include <immintrin.h>
#endif
#endif

#if defined(__GNUC__)
#define NQ_INLINE static inline __attribute__((always_inline, unused))
#define NQ_ALIGN __attribute__((aligned(64)))
#else
#define NQ_INLINE static inline
#define NQ_ALIGN
#endif

/* clang unrolls these constant loops by itself and warns about a pragma that it could not follow at -O0. */
#if defined(__GNUC__) && !defined(__clang__)
#define NQ_UNROLL _Pragma("GCC unroll 16")
#else
#define NQ_UNROLL
#endif

/* Keeps clang from unrolling a long loop because its tables are constants. */
#if defined(__clang__)
#define NQ_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define NQ_ROLLED
#endif

/* gcc gathers all products before all sums, runs out of registers and spills the sums; this pins each where it is. */
#if defined(__GNUC__) && !defined(__clang__)
#define NQ_PIN(v) __asm__ volatile("" : "+x"(v))
#else
#define NQ_PIN(v) ((void)0)
#endif

enum { NQ_LINEAR, NQ_RELU, NQ_LEAKY_RELU, NQ_CLIP };

NQ_INLINE float nq_activate(float x, const int function, const float low, const float high)
{
    if (function == NQ_RELU) return x > 0.0f ? x : 0.0f;
    if (function == NQ_LEAKY_RELU) return x < 0.0f ? x * low : x;
    if (function == NQ_CLIP) return x < low ? low : x > high ? high : x;
    return x;
}

#if NQ_VECTOR
typedef float nq_f8 __attribute__((vector_size(32)));
typedef float nq_f8u __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t nq_i8 __attribute__((vector_size(32)));
#define NQ_LOAD8(p) (*(const nq_f8u *)(p))
#define NQ_STORE8(p, v) (*(nq_f8u *)(p) = (v))
#if NQ_AVX2
#define NQ_FMA8(acc, x, w) ((acc) = (nq_f8)_mm256_fmadd_ps(_mm256_set1_ps(x), (__m256)(w), (__m256)(acc)))
#define NQ_FMA8V(acc, x, w) ((acc) = (nq_f8)_mm256_fmadd_ps((__m256)(x), (__m256)(w), (__m256)(acc)))
#else
#define NQ_FMA8(acc, x, w) ((acc) += (x) * (w))
#define NQ_FMA8V(acc, x, w) ((acc) += (x) * (w))
#endif

NQ_INLINE void nq_activate8(nq_f8 *v, const int function, const float low, const float high)
{
    const nq_f8 zero = {0, 0, 0, 0, 0, 0, 0, 0}, lows = zero + low, highs = zero + high, x = *v;
    if (function == NQ_RELU) {
        *v = (nq_f8)((nq_i8)x & (nq_i8)(x > zero));
    } else if (function == NQ_LEAKY_RELU) {
        const nq_i8 negative = (nq_i8)(x < zero);
        *v = (nq_f8)(((nq_i8)(x * lows) & negative) | ((nq_i8)x & ~negative));
    } else if (function == NQ_CLIP) {
        const nq_i8 below = (nq_i8)(x < lows), above = (nq_i8)(x > highs);
        *v = (nq_f8)(((nq_i8)lows & below) | ((nq_i8)highs & above) | ((nq_i8)x & ~below & ~above));
    }
}
#endif

#if NQ_AVX2 && defined(__BMI2__) && defined(__x86_64__)
#define NQ_NONZERO8 1
/* The non-zeros of the eight bytes from x + first on, and their places in x (room for eight); how many they are. */
NQ_INLINE int nq_nonzero8(const uint8_t *x, const int first, uint64_t *found, int32_t *row)
{
    uint64_t eight;
    memcpy(&eight, x + first, 8);
    const __m128i v = _mm_cvtsi64_si128((long long)eight);
    const unsigned mask = ~(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_setzero_si128())) & 0xffu;
    const uint64_t bytes = _pdep_u64(mask, 0x0101010101010101u) * 0xffu;
    const __m128i places = _mm_cvtsi64_si128((long long)_pext_u64(0x0706050403020100u, bytes));
    *found = _pext_u64(eight, bytes);
    _mm256_storeu_si256((__m256i *)(void *)row,
                        _mm256_add_epi32(_mm256_cvtepu8_epi32(places), _mm256_set1_epi32(first)));
    return __builtin_popcount(mask);
}
#endif

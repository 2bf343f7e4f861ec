#define NQ_INLINE static inline __attribute__((always_inline, unused))

#define NQ_ALIGN __attribute__((aligned(64)))

/* clang unrolls these constant loops by itself and warns about a pragma that it could not follow at -O0. */
#if !defined(__clang__) && __GNUC__ >= 8
#define NQ_UNROLL _Pragma("GCC unroll 16")
#else
#define NQ_UNROLL
#endif

/* Keeps clang from unrolling a loop whose sums fill the registers. */
#if defined(__clang__)
#define NQ_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define NQ_ROLLED
#endif

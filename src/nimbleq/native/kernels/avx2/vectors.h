/* Vectors of eight, and numbers read from bytes at any address. */
typedef float nq_f8 __attribute__((vector_size(32)));
typedef float nq_f8u __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t nq_i8 __attribute__((vector_size(32)));

/* Sums of 32 bits. GCC keeps two copies of an accumulator that changes between this type and __m256i. */
typedef uint32_t nq_acc8 __attribute__((vector_size(32)));
typedef int32_t nq_i32u __attribute__((aligned(1), may_alias));
typedef uint64_t nq_u64u __attribute__((aligned(1), may_alias));

NQ_INLINE nq_f8 nq_load8(const float *p)
{
    return *(const nq_f8u *)(const void *)p;
}

NQ_INLINE void nq_store_f8(float *p, const nq_f8 v)
{
    *(nq_f8u *)(void *)p = v;
}

NQ_INLINE nq_acc8 nq_load_acc8(const int32_t *p)
{
    return (nq_acc8)_mm256_loadu_si256((const __m256i *)(const void *)p);
}

NQ_INLINE int32_t nq_load_i32(const void *p)
{
    return *(const nq_i32u *)p;
}

NQ_INLINE nq_f8 nq_fma8(const nq_f8 acc, const nq_f8 x, const nq_f8 w)
{
    return (nq_f8)_mm256_fmadd_ps((__m256)x, (__m256)w, (__m256)acc);
}

NQ_INLINE nq_f8 nq_all8(const float x)
{
    return (nq_f8)_mm256_set1_ps(x);
}

/* The widest vectors that the compiler may use, for weights that lie in vectors of 8: two of those side by side where there
   is AVX-512, of which the second may be missing. `count` says how many floats of them there are. */
#if defined(__AVX512F__)

enum { NQ_LANES = 16 };
typedef float nq_wide __attribute__((vector_size(64)));

NQ_INLINE __mmask16 nq_first(const int count)
{
    return (__mmask16)(count >= 16 ? 0xffff : (1 << count) - 1);
}

NQ_INLINE nq_wide nq_load_wide(const float *p, const int count)
{
    return (nq_wide)(count >= 16 ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(nq_first(count), p));
}

NQ_INLINE void nq_store_wide(float *p, const nq_wide v, const int count)
{
    if (count >= 16) _mm512_storeu_ps(p, (__m512)v);
    else _mm512_mask_storeu_ps(p, nq_first(count), (__m512)v);
}

NQ_INLINE nq_wide nq_fma_wide(const nq_wide acc, const nq_wide x, const nq_wide w)
{
    return (nq_wide)_mm512_fmadd_ps((__m512)x, (__m512)w, (__m512)acc);
}

NQ_INLINE nq_wide nq_all_wide(const float x)
{
    return (nq_wide)_mm512_set1_ps(x);
}

/* So many of `count` floats can be read by them: all, the last ones under a mask. */
NQ_INLINE int nq_in_wides(const int count)
{
    return count;
}

/* A bit for each that is not zero; NaN is not. */
NQ_INLINE unsigned nq_there_wide(const nq_wide v)
{
    return _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
}

NQ_INLINE float nq_sum_wide(const nq_wide v)
{
    const __m256 low = _mm512_castps512_ps256((__m512)v);
    const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd((__m512)v), 1));
    const nq_f8 both = (nq_f8)low + (nq_f8)high;
    return ((both[0] + both[4]) + (both[1] + both[5])) + ((both[2] + both[6]) + (both[3] + both[7]));
}

/* nq_activate on sixteen. */
NQ_INLINE nq_wide nq_activate_wide(const nq_wide v, const int function, const float low, const float high)
{
    const __m512 x = (__m512)v, lows = _mm512_set1_ps(low), highs = _mm512_set1_ps(high), zero = _mm512_setzero_ps();
    if (function == NQ_RELU) return (nq_wide)_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, zero, _CMP_GT_OQ), x);
    if (function == NQ_LEAKY_RELU)
        return (nq_wide)_mm512_mask_mul_ps(x, _mm512_cmp_ps_mask(x, zero, _CMP_LT_OQ), x, lows);
    if (function == NQ_CLIP) {
        const __m512 above = _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(x, lows, _CMP_LT_OQ), lows);
        return (nq_wide)_mm512_mask_mov_ps(above, _mm512_cmp_ps_mask(x, highs, _CMP_GT_OQ), highs);
    }
    return v;
}

#else

enum { NQ_LANES = 8 };
typedef nq_f8 nq_wide;

NQ_INLINE nq_wide nq_load_wide(const float *p, const int count)
{
    (void)count;
    return nq_load8(p);
}

NQ_INLINE void nq_store_wide(float *p, const nq_wide v, const int count)
{
    if (count >= 8) nq_store_f8(p, v);
    else
        for (int i = 0; i < count; ++i) p[i] = v[i];
}

NQ_INLINE nq_wide nq_fma_wide(const nq_wide acc, const nq_wide x, const nq_wide w)
{
    return nq_fma8(acc, x, w);
}

NQ_INLINE nq_wide nq_all_wide(const float x)
{
    return nq_all8(x);
}

NQ_INLINE int nq_in_wides(const int count)
{
    return count / 8 * 8;
}

NQ_INLINE unsigned nq_there_wide(const nq_wide v)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_setzero_ps(), _CMP_NEQ_UQ));
}

NQ_INLINE float nq_sum_wide(const nq_wide v)
{
    return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
}

NQ_INLINE nq_wide nq_activate_wide(const nq_wide v, const int function, const float low, const float high)
{
    nq_f8 x = v;
    nq_activate8(&x, function, low, high);
    return x;
}

#endif

/* How many of them hold `count` floats. */
NQ_INLINE int nq_wides(const int count)
{
    return (count + NQ_LANES - 1) / NQ_LANES;
}

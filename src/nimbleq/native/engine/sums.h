/* Linear and Conv2d: dense sums in tiles of P windows times V vectors of outputs whose accumulators stay in registers,
   and sparse ones over what is stored. Weights lie in blocks: [block][run][input][output of the block]. */
#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef float vf_in_memory __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vi_in_memory __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

enum { TILE = 8, PIXELS = LANES == 16 ? 12 : LANES == 8 ? 6 : 3, MOST = 12 }; /* accumulators: PIXELS x 16 / LANES, or TILE */

INLINE vf load(const float *p) { return *(const vf_in_memory *)(const void *)p; }
INLINE void store(float *p, vf v) { *(vf_in_memory *)(void *)p = v; }
INLINE vi load_int(const int32_t *p) { return *(const vi_in_memory *)(const void *)p; }
INLINE void store_int(int32_t *p, vi v) { *(vi_in_memory *)(void *)p = v; }
INLINE int32_t load_four(const void *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

INLINE vf activated(vf x, const int function, const float low, const float high)
{
    const vf zero = {0};
    if (function == NQ_RELU) return (vf)((vi)x & (x > zero));
    if (function == NQ_LEAKY_RELU) {
        const vi negative = x < zero;
        return (vf)(((vi)(x * low) & negative) | ((vi)x & ~negative));
    }
    if (function == NQ_CLIP) {
        const vf lows = zero + low, highs = zero + high;
        const vi below = x < lows, above = x > highs;
        return (vf)(((vi)lows & below) | ((vi)highs & above) | ((vi)x & ~below & ~above));
    }
    return x;
}

/* The elements at which P windows from `first` on begin, and the places of their results. */
INLINE void begin(const Sums *s, const int P, int first, size_t *window, size_t *result)
{
    UNROLL
    for (int p = 0; p < P; ++p) {
        const int r = P == 1 && s->rows == 1 && s->cols == 1 ? 0 : (first + p) / s->cols;
        const int c = P == 1 && s->rows == 1 && s->cols == 1 ? 0 : (first + p) % s->cols;
        window[p] = (size_t)r * (size_t)s->step_y + (size_t)c * (size_t)s->step_x;
        result[p] = (size_t)(first + p) * (size_t)s->out;
    }
}

/* Stores V vectors, of which `keep` floats count. */
INLINE void finish(const Step *step, const int V, vf *acc, float *y, const int keep)
{
    const float low = step->real[0], high = step->real[1];
#define ALL(function)      \
    case function:         \
        UNROLL             \
        for (int v = 0; v < V; ++v) acc[v] = activated(acc[v], function, low, high); \
        break;
    switch (step->sums.function) {
        ALL(NQ_RELU) ALL(NQ_LEAKY_RELU) ALL(NQ_CLIP)
    default: break;
    }
#undef ALL
    UNROLL
    for (int v = 0; v < V; ++v) {
        if (keep >= (v + 1) * LANES) {
            store(y + v * LANES, acc[v]);
        } else {
            float part[LANES];
            store(part, acc[v]);
            for (int c = 0; c < keep - v * LANES; ++c) y[v * LANES + c] = part[c];
        }
    }
}

/* Sums of P windows and V vectors of a block `width` wide. */
INLINE void tile_f32(const Step *step, const int P, const int V, const float *x, int first, const float *w,
                     const float *b, float *y, const int width, const int keep)
{
    const Sums *s = &step->sums;
    size_t window[PIXELS], result[PIXELS];
    vf acc[MOST];
    begin(s, P, first, window, result);
    UNROLL
    for (int i = 0; i < P * V; ++i) acc[i] = load(b + i % V * LANES);
    for (int run = 0; run < s->runs; ++run) {
        const float *in[PIXELS];
        UNROLL
        for (int p = 0; p < P; ++p) in[p] = x + window[p] + (size_t)run * (size_t)s->run_step;
        for (int k = 0; k < s->run; ++k, w += width) {
            vf line[TILE];
            UNROLL
            for (int v = 0; v < V; ++v) line[v] = load(w + v * LANES);
            UNROLL
            for (int p = 0; p < P; ++p) {
                UNROLL
                for (int v = 0; v < V; ++v) acc[p * V + v] += in[p][k] * line[v];
            }
        }
    }
    UNROLL
    for (int p = 0; p < P; ++p) finish(step, V, acc + p * V, y + result[p], keep);
}

/* The same of one window that is one run; of a sparse one x holds the inputs that are not 0, and `row` their places. */
INLINE void line_f32(const Step *step, const int V, const int sparse, const float *x, const int32_t *row, const int count,
                     const float *w, const float *b, float *y, const int width, const int keep)
{
    const int U = V == 1 ? 8 : V == 2 ? 4 : V < 5 ? 2 : 1; /* so many inputs at a time hide the latency of an addition */
    vf acc[TILE];
    int k = 0;
    UNROLL
    for (int i = 0; i < V * U; ++i) {
        if (i < V) acc[i] = load(b + i * LANES);
        else acc[i] = (vf){0};
    }
    for (; k + U <= count; k += U) {
        UNROLL
        for (int u = 0; u < U; ++u) {
            const float *line = w + (size_t)(sparse ? row[k + u] : k + u) * (size_t)width;
            UNROLL
            for (int v = 0; v < V; ++v) acc[u * V + v] += x[k + u] * load(line + v * LANES);
        }
    }
    for (; U > 1 && k < count; ++k) {
        const float *line = w + (size_t)(sparse ? row[k] : k) * (size_t)width;
        UNROLL
        for (int v = 0; v < V; ++v) acc[v] += x[k] * load(line + v * LANES);
    }
    UNROLL
    for (int i = V; i < V * U; ++i) acc[i % V] += acc[i];
    finish(step, V, acc, y, keep);
}

/* Values and places of the inputs that are not 0, without branches; room for `count` + 16. */
INLINE int nonzero(const float *x, const int count, float *value, int32_t *row)
{
    int n = 0, i = 0;
#if defined(NQ_AVX2)
    for (; i + 8 <= count; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        const unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ));
        const uint64_t bytes = _pdep_u64(mask, 0x0101010101010101u) * 0xffu;
        const __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)_pext_u64(0x0706050403020100u, bytes)));
        _mm256_storeu_ps(value + n, _mm256_permutevar8x32_ps(v, order));
        _mm256_storeu_si256((__m256i *)(void *)(row + n), _mm256_add_epi32(order, _mm256_set1_epi32(i)));
        n += __builtin_popcount(mask);
    }
#endif
    for (; i < count; ++i) {
        value[n] = x[i];
        row[n] = i;
        n += x[i] != 0.0f;
    }
    return n;
}

/* One window that is one run. */
static void linear_f32(const Step *step, Run *run)
{
    const Sums *s = &step->sums;
    const float *x = X(float), *w = step->constant[0], *b = step->constant[1];
    int32_t *row = NULL;
    int count = s->run;
    if (s->skips) {
        float *value = (float *)(void *)(run->arena + s->scratch);
        row = (int32_t *)(void *)(value + s->run + 16);
        count = nonzero(x, count, value, row);
        x = value;
    }
    for (int block = 0; block < s->out; block += s->block) {
        const int left = s->out - block, wide = (left + 15) / 16 * 16, width = wide < s->block ? wide : s->block;
        for (int at = 0; at < width; at += TILE * LANES) {
            const float *weights = w + at, *bias = b + block + at;
            float *y = Y(float) + block + at;
#define LINE(V, sparse) line_f32(step, V, sparse, x, row, count, weights, bias, y, width, left - at)
#define CASE(V)                          \
    case V:                              \
        if (row != NULL) LINE(V, 1);     \
        else LINE(V, 0);                 \
        break;
            switch ((width - at) / LANES) {
                CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
            default:
                if (row != NULL) LINE(8, 1);
                else LINE(8, 0);
            }
#undef CASE
#undef LINE
        }
        w += (size_t)s->run * (size_t)width;
    }
}

static void sums_f32(const Step *step, Run *run)
{
    const Sums *s = &step->sums;
    const float *x = X(float), *w = step->constant[0], *b = step->constant[1];
    const int windows = s->rows * s->cols;
    if (windows == 1 && s->runs == 1) {
        linear_f32(step, run);
        return;
    }
    for (int block = 0; block < s->out; block += s->block) {
        const int left = s->out - block, wide = (left + 15) / 16 * 16, width = wide < s->block ? wide : s->block;
        int first = 0;
        for (; windows >= PIXELS && first < windows; first += PIXELS) {
            const int from = first + PIXELS <= windows ? first : windows - PIXELS;
            for (int at = 0; at < width; at += 16)
                tile_f32(step, PIXELS, 16 / LANES, x, from, w + at, b + block + at, Y(float) + block + at, width, left - at);
        }
        for (; first < windows; ++first)
            for (int at = 0; at < width; at += 16)
                tile_f32(step, 1, 16 / LANES, x, first, w + at, b + block + at, Y(float) + block + at, width, left - at);
        w += (size_t)s->runs * (size_t)s->run * (size_t)width;
    }
}

/* A Linear with few outputs, whose vectors run along the inputs: weights [output][input, up to a multiple of 16]. */
INLINE void dots(const int O, const float *x, const float *w, const float *b, float *y, const int count, const int stride)
{
    const int whole = count / LANES * LANES;
    vf acc[8];
    UNROLL
    for (int o = 0; o < O; ++o) acc[o] = (vf){0};
    for (int k = 0; k < whole; k += LANES) {
        const vf in = load(x + k);
        UNROLL
        for (int o = 0; o < O; ++o) acc[o] += in * load(w + o * stride + k);
    }
    for (int o = 0; o < O; ++o) {
        float part[LANES], sum = b[o];
        store(part, acc[o]);
        UNROLL
        for (int half = LANES / 2; half > 0; half /= 2)
            for (int i = 0; i < half; ++i) part[i] += part[i + half];
        for (int k = whole; k < count; ++k) sum += x[k] * w[o * stride + k];
        y[o] = sum + part[0];
    }
}

static void dots_f32(const Step *step, Run *run)
{
    const Sums *s = &step->sums;
    const float *b = step->constant[1];
    const int stride = (s->run + 15) / 16 * 16;
    float *const out = Y(float);
    for (int o = 0; o < s->out; o += 8) {
        const float *x = X(float), *w = (const float *)step->constant[0] + (size_t)o * (size_t)stride;
        float *y = out + o;
#define CASE(O) case O: dots(O, x, w, b + o, y, s->run, stride); break;
        switch (s->out - o) {
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)
        default: dots(8, x, w, b + o, y, s->run, stride);
        }
#undef CASE
    }
    for (int o = 0; o < s->out; ++o) out[o] = nq_activate(out[o], s->function, step->real[0], step->real[1]);
}

/* Stores `count` sums from element `result` of y on, requantized where `requantizes` says so. */
INLINE void store_row(const int32_t *multiplier, const int32_t *shift, const int requantizes, const int zero_point,
                      const int low, const int high, const int32_t *sum, const int count, char *y, const size_t result)
{
    if (!requantizes) {
        memcpy((int32_t *)(void *)y + result, sum, 4 * (size_t)count);
        return;
    }
    uint8_t *to = (uint8_t *)y + result;
    int i = 0;
#if defined(NQ_AVX2)
    for (; i < count && requantizes > 1; i += 16) {
        __m256i part[2];
        for (int v = 0; v < 2; ++v) {
            const __m256i acc = _mm256_loadu_si256((const __m256i *)(const void *)(sum + i + 8 * v));
            part[v] = nq_scaled8(acc, multiplier + i + 8 * v, shift + i + 8 * v);
        }
        const __m128i bytes = nq_bytes16(part[0], part[1], zero_point, low, high);
        if (count - i >= 16) {
            _mm_storeu_si128((__m128i *)(void *)(to + i), bytes);
        } else {
            unsigned char rest[16];
            _mm_storeu_si128((__m128i *)(void *)rest, bytes);
            memcpy(to + i, rest, (size_t)(count - i));
        }
    }
#endif
    for (; i < count; ++i) to[i] = (uint8_t)nq_requantize(sum[i], multiplier[i], shift[i], zero_point, low, high);
}

/* The same of one window, from output `output` on. */
INLINE void store_sums(const Step *step, const int32_t *sum, const int output, const int count, const size_t result, char *y)
{
    const Sums *s = &step->sums;
    const int32_t *multiplier = step->constant[2], *shift = step->constant[3];
    store_row(s->requantizes ? multiplier + output : NULL, s->requantizes ? shift + output : NULL, s->requantizes,
              s->zero_point, s->low, s->high, sum, count, y, result + (size_t)output);
}

#if defined(NQ_AVX512)
#define WIDE(name) _mm512_##name
#define BITS(name) _mm512_##name##_si512
typedef __m512i wi;
#elif defined(NQ_AVX2)
#define WIDE(name) _mm256_##name
#define BITS(name) _mm256_##name##_si256
typedef __m256i wi;
#elif defined(__SSE2__)
#define WIDE(name) _mm_##name
#define BITS(name) _mm_##name##_si128
typedef __m128i wi;
#endif

/* Four inputs (bytes) of P windows times V vectors of outputs: [four][output][4]. */
INLINE void add_u8(const int P, const int V, const uint8_t *const *x, const int k, const int8_t *w, const int proven, vi *acc)
{
#if defined(WIDE)
    wi line[TILE];
    UNROLL
    for (int v = 0; v < V; ++v) line[v] = BITS(loadu)((const void *)(w + 4 * LANES * v));
    UNROLL
    for (int p = 0; p < P; ++p) {
        const wi four = WIDE(set1_epi32)(load_four(x[p] + k));
#if defined(NQ_VNNI)
        (void)proven;
        UNROLL
        for (int v = 0; v < V; ++v) acc[p * V + v] = (vi)WIDE(dpbusd_epi32)((wi)acc[p * V + v], four, line[v]);
#else
#if defined(NQ_AVX2)
        if (proven) {
            const wi ones = WIDE(set1_epi16)(1);
            UNROLL
            for (int v = 0; v < V; ++v)
                acc[p * V + v] += (vi)WIDE(madd_epi16)(WIDE(maddubs_epi16)(four, line[v]), ones);
            continue;
        }
#endif
        (void)proven;
        const wi even = BITS(and)(four, WIDE(set1_epi32)(0x00ff00ff)), odd = WIDE(srli_epi16)(four, 8);
        UNROLL
        for (int v = 0; v < V; ++v) {
            const wi w_even = WIDE(srai_epi16)(WIDE(slli_epi16)(line[v], 8), 8), w_odd = WIDE(srai_epi16)(line[v], 8);
            acc[p * V + v] += (vi)WIDE(madd_epi16)(even, w_even) + (vi)WIDE(madd_epi16)(odd, w_odd);
        }
#endif
    }
#else
    (void)proven;
    for (int p = 0; p < P; ++p)
        for (int v = 0; v < V; ++v)
            for (int l = 0; l < LANES; ++l)
                for (int i = 0; i < 4; ++i) acc[p * V + v][l] += x[p][k + i] * w[4 * (LANES * v + l) + i];
#endif
}

/* Two inputs (int16) of P windows: [two][output][2]. */
INLINE void add_i16(const int P, const int V, const int16_t *const *x, const int k, const int16_t *w, vi *acc)
{
#if defined(WIDE)
    wi line[TILE];
    UNROLL
    for (int v = 0; v < V; ++v) line[v] = BITS(loadu)((const void *)(w + 2 * LANES * v));
    UNROLL
    for (int p = 0; p < P; ++p) {
        const wi two = WIDE(set1_epi32)(load_four(x[p] + k));
        UNROLL
        for (int v = 0; v < V; ++v)
#if defined(NQ_VNNI)
            acc[p * V + v] = (vi)WIDE(dpwssd_epi32)((wi)acc[p * V + v], two, line[v]);
#else
            acc[p * V + v] += (vi)WIDE(madd_epi16)(two, line[v]);
#endif
    }
#else
    for (int p = 0; p < P; ++p)
        for (int v = 0; v < V; ++v)
            for (int l = 0; l < LANES; ++l)
                for (int i = 0; i < 2; ++i) acc[p * V + v][l] += x[p][k + i] * w[2 * (LANES * v + l) + i];
#endif
}

/* Sums of V vectors of a block, from output `output` on. T: the inputs; unit: how many belong together. */
#define TILE_INT(name, T, W, unit, ADD)                                                                              \
    INLINE void name(const Step *step, const int P, const int V, const T *x, int first, const W *w, char *y,         \
                     const int output, const int width, const int proven)                                            \
    {                                                                                                                \
        const Sums *s = &step->sums;                                                                                 \
        const int32_t *b = (const int32_t *)step->constant[1] + output;                                              \
        const int left = s->out - output, keep = left < V * LANES ? left : V * LANES;                                \
        size_t window[PIXELS], result[PIXELS];                                                                       \
        vi acc[MOST];                                                                                                \
        begin(s, P, first, window, result);                                                                          \
        UNROLL                                                                                                       \
        for (int i = 0; i < P * V; ++i) acc[i] = load_int(b + i % V * LANES);                                        \
        for (int run = 0; run < s->runs; ++run) {                                                                    \
            const T *in[PIXELS];                                                                                     \
            UNROLL                                                                                                   \
            for (int p = 0; p < P; ++p) in[p] = x + window[p] + (size_t)run * (size_t)s->run_step;                   \
            for (int k = 0; k < s->run; k += unit, w += unit * width) ADD;                                           \
        }                                                                                                            \
        UNROLL                                                                                                       \
        for (int p = 0; p < P; ++p) {                                                                                \
            _Alignas(64) int32_t sum[V * LANES < 16 ? 16 : V * LANES];                                               \
            UNROLL                                                                                                   \
            for (int v = 0; v < V; ++v) store_int(sum + v * LANES, acc[p * V + v]);                                  \
            store_sums(step, sum, output, keep, result[p], y);                                                       \
        }                                                                                                            \
    }

TILE_INT(tile_u8, uint8_t, int8_t, 4, add_u8(P, V, in, k, w, proven, acc))
TILE_INT(tile_i16, int16_t, int16_t, 2, ((void)proven, add_i16(P, V, in, k, w, acc)))

/* All blocks and windows. */
#define SUMS_INT(name, tile, T, W, unit, proven)                                                                     \
    static void name(const Step *step, Run *run)                                                                     \
    {                                                                                                                \
        const Sums *s = &step->sums;                                                                                 \
        const T *x = X(T);                                                                                           \
        const W *w = step->constant[0];                                                                              \
        const int windows = s->rows * s->cols;                                                                       \
        for (int block = 0; block < s->out; block += s->block) {                                                     \
            const int wide = (s->out - block + 15) / 16 * 16, width = wide < s->block ? wide : s->block;             \
            int first = 0;                                                                                           \
            if (windows >= PIXELS)                                                                                   \
                for (; first < windows; first += PIXELS) {                                                           \
                    const int from = first + PIXELS <= windows ? first : windows - PIXELS;                           \
                    for (int at = 0; at < width; at += 16)                                                           \
                        tile(step, PIXELS, 16 / LANES, x, from, w + unit * at, Y(char), block + at, width, proven);  \
                }                                                                                                    \
            for (; first < windows; ++first)                                                                         \
                for (int at = 0; at < width; at += TILE * LANES)                                                     \
                    switch ((width - at) / LANES) {                                                                  \
                        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7)                                      \
                    default: tile(step, 1, 8, x, first, w + unit * at, Y(char), block + at, width, proven);          \
                    }                                                                                                \
            w += (size_t)s->runs * (size_t)((s->run + unit - 1) / unit * unit) * (size_t)width;                      \
        }                                                                                                            \
    }

#define CASE(V) case V: tile_u8(step, 1, V, x, first, w + 4 * at, Y(char), block + at, width, 0); break;
SUMS_INT(sums_exact_u8, tile_u8, uint8_t, int8_t, 4, 0)
#undef CASE
#define CASE(V) case V: tile_i16(step, 1, V, x, first, w + 2 * at, Y(char), block + at, width, 0); break;
SUMS_INT(sums_i16, tile_i16, int16_t, int16_t, 2, 0)
#undef CASE
#if defined(NQ_AVX2) && !defined(NQ_VNNI)
#define CASE(V) case V: tile_u8(step, 1, V, x, first, w + 4 * at, Y(char), block + at, width, 1); break;
SUMS_INT(sums_proven_u8, tile_u8, uint8_t, int8_t, 4, 1)
#undef CASE
#endif

static void sums_u8(const Step *step, Run *run)
{
#if defined(NQ_AVX2) && !defined(NQ_VNNI)
    if (step->sums.proven) {
        sums_proven_u8(step, run);
        return;
    }
#endif
    sums_exact_u8(step, run);
}

static void sparse_f32(const Step *step, Run *run)
{
    const Sums *s = &step->sums;
    const float *bias = step->constant[1], low = step->real[0], high = step->real[1];
    const int32_t *count = step->constant[4];
    for (int r = 0; r < s->rows; ++r)
        for (int c = 0; c < s->cols; ++c) {
            const float *x = X(float) + (size_t)r * (size_t)s->step_y + (size_t)c * (size_t)s->step_x;
            const float *w = step->constant[0];
            const int32_t *at = step->constant[5];
            float *y = Y(float) + ((size_t)r * (size_t)s->cols + (size_t)c) * (size_t)s->out;
            for (int o = 0; o < s->out; ++o) {
                float sum = bias[o];
                for (int n = count[o]; n > 0; --n) sum += x[*at++] * *w++;
                y[o] = nq_activate(sum, s->function, low, high);
            }
        }
}

static void sparse_int(const Step *step, Run *run)
{
    const Sums *s = &step->sums;
    const int32_t *bias = step->constant[1], *count = step->constant[4];
    for (int r = 0; r < s->rows; ++r)
        for (int c = 0; c < s->cols; ++c) {
            const size_t window = (size_t)r * (size_t)s->step_y + (size_t)c * (size_t)s->step_x;
            const int32_t *w = step->constant[0], *at = step->constant[5];
            const size_t result = ((size_t)r * (size_t)s->cols + (size_t)c) * (size_t)s->out;
            INTEGERS(s->type_x, const T *x = X(T) + window; for (int o = 0; o < s->out; ++o) {
                uint32_t sum = (uint32_t)bias[o];
                for (int n = count[o]; n > 0; --n) sum += (uint32_t)x[*at++] * (uint32_t)*w++;
                const int32_t whole = (int32_t)sum;
                if (!s->requantizes) {
                    Y(int32_t)[result + (size_t)o] = whole;
                } else {
                    const int32_t *m = step->constant[2]; const int32_t *shift = step->constant[3];
                    Y(uint8_t)[result + (size_t)o] = (uint8_t)nq_requantize(whole, m[o], shift[o], s->zero_point, s->low, s->high);
                }
            })
        }
}

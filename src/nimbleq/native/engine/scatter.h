/* First layers of binary observations: inputs that are not 0 add their weights, the others cost a look. A sum takes its
   inputs in the order in which they lie. */
typedef uint32_t vu __attribute__((vector_size(4 * LANES)));

/* Input k, which is not 0: `lines` and `run` are those of the step, as constants where that is worth it. */
INLINE void add_f32(const int lines, const int run, const int step, const float x, const float *line, float *sum)
{
    for (int a = 0; a < lines; ++a, line += run, sum += step) {
        UNROLL
        for (int i = 0; i < run; i += LANES) store(sum + i, load(sum + i) + x * load(line + i));
    }
}

INLINE void add_int(const int lines, const int run, const int step, const int32_t times, const int32_t *line, int32_t *sum)
{
    const uint32_t x = (uint32_t)times; /* sums wrap around, as everywhere */
    for (int a = 0; a < lines; ++a, line += run, sum += step)
        for (int i = 0; i < run; i += LANES) store_int(sum + i, (vi)((vu)load_int(sum + i) + x * (vu)load_int(line + i)));
}

/* A byte: weights of int8 fit the low half of their int32, so one instruction multiplies them. */
INLINE void add_byte(const int lines, const int run, const int step, const uint8_t x, const int32_t *line, int32_t *sum)
{
#if defined(NQ_AVX2)
    const wi by = WIDE(set1_epi32)(x);
    for (int a = 0; a < lines; ++a, line += run, sum += step) {
        UNROLL
        for (int i = 0; i < run; i += LANES)
            store_int(sum + i, (vi)((vu)load_int(sum + i) + (vu)WIDE(madd_epi16)((wi)load_int(line + i), by)));
    }
#else
    add_int(lines, run, step, x, line, sum);
#endif
}

/* Bit j of the result is set where byte j of eight is not 0. */
INLINE unsigned there(const uint8_t *x)
{
#if defined(NQ_AVX2)
    const __m128i eight = _mm_loadl_epi64((const __m128i *)(const void *)x);
    return 0xffu & ~(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(eight, _mm_setzero_si128()));
#else
    unsigned found = 0;
    for (int j = 0; j < 8; ++j) found |= (unsigned)(x[j] != 0) << j;
    return found;
#endif
}

#define MINATAR(s) ((s)->lines == 3 && (s)->run == 48) /* 3 x 3, up to 16 channels: most first layers of boards */

#define ADD_ALL(T, ADD)                                          \
    {                                                            \
        for (int k = 0; k < s->inputs; ++k)                      \
            if (X(T)[k] != 0) ADD;                               \
    }

#define ADD_BYTES(ADD)                                           \
    {                                                            \
        typedef uint8_t T;                                       \
        int start = 0;                                           \
        for (; start + 8 <= s->inputs; start += 8) {             \
            unsigned left = there(X(T) + start);                 \
            for (; left != 0; left &= left - 1) {                \
                const int k = start + __builtin_ctz(left);       \
                ADD;                                             \
            }                                                    \
        }                                                        \
        for (int k = start; k < s->inputs; ++k)                  \
            if (X(T)[k] != 0) ADD;                               \
    }

/* The sums with their biases, `width` a multiple of 16 to a pixel. */
#define BEGIN(element, LOAD, STORE)                                                                       \
    const Scatter *s = &step->scatter;                                                                    \
    const element *w = step->constant[0], *b = step->constant[1];                                         \
    const int32_t *place = step->constant[4], *from = step->constant[5];                                  \
    element *grid = (element *)(void *)(run->arena + s->scratch);                                         \
    for (int p = 0; p < s->pixels; ++p)                                                                   \
        for (int i = 0; i < s->width; i += LANES) STORE(grid + p * s->width + i, LOAD(b + i));

static void scatter_f32(const Step *step, Run *run)
{
    BEGIN(float, load, store)
#define ADD(T, lines, run) add_f32(lines, run, s->step, (float)X(T)[k], w + from[k], grid + place[k])
    if (s->type_x == NQ_F32) ADD_ALL(float, ADD(float, s->lines, s->run))
    else if (s->type_x == NQ_U8 && MINATAR(s)) ADD_BYTES(ADD(uint8_t, 3, 48))
    else if (s->type_x == NQ_U8) ADD_BYTES(ADD(uint8_t, s->lines, s->run))
    else INTEGERS(s->type_x, ADD_ALL(T, ADD(T, s->lines, s->run)))
#undef ADD
    const float low = step->real[0], high = step->real[1];
    float *y = Y(float);
    for (int r = 0; r < s->rows; ++r)
        for (int c = 0; c < s->cols; ++c, y += s->out) {
            const float *sum = grid + s->first + r * s->step + c * s->width;
            int o = 0;
            for (; o + LANES <= s->out; o += LANES) store(y + o, activated(load(sum + o), s->function, low, high));
            for (; o < s->out; ++o) y[o] = nq_activate(sum[o], s->function, low, high);
        }
}

static void scatter_int(const Step *step, Run *run)
{
    BEGIN(int32_t, load_int, store_int)
#define ADD(T, add, lines, run) add(lines, run, s->step, X(T)[k], w + from[k], grid + place[k])
    if (s->type_x == NQ_U8 && MINATAR(s)) ADD_BYTES(ADD(uint8_t, add_byte, 3, 48))
    else if (s->type_x == NQ_U8) ADD_BYTES(ADD(uint8_t, add_byte, s->lines, s->run))
    else INTEGERS(s->type_x, ADD_ALL(T, ADD(T, add_int, s->lines, s->run)))
#undef ADD
    const int32_t *multiplier = step->constant[2], *shift = step->constant[3];
    for (int r = 0; r < s->rows; ++r)
        for (int c = 0; c < s->cols; ++c) {
            const int32_t *sum = grid + s->first + r * s->step + c * s->width;
            const size_t to = ((size_t)r * (size_t)s->cols + (size_t)c) * (size_t)s->out;
            store_row(multiplier, shift, s->requantizes, s->zero_point, s->low, s->high, sum, s->out, Y(char), to);
        }
}
#undef BEGIN
#undef ADD_ALL
#undef ADD_BYTES
#undef MINATAR

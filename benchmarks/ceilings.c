/* What one core of this processor can do at most, as a line of JSON: products a nanosecond of the instructions that
   AVX2 code multiplies with, in registers, and bytes a nanosecond from the caches. Minima of many short rounds. */
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 200, TURNS = 2000, CHAINS = 10 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static volatile int64_t sink;

/* Nanoseconds of TURNS turns of CHAINS independent chains. */
#define TIMED(name, type, start, step)                                                                        \
    static double name(void)                                                                                  \
    {                                                                                                         \
        double best = 1e30;                                                                                   \
        for (int round = 0; round < ROUNDS; ++round) {                                                        \
            type sum[CHAINS], a = start(1), b = start(2);                                                     \
            _Pragma("GCC unroll 16") for (int i = 0; i < CHAINS; ++i) sum[i] = start(0);                      \
            const double from = now();                                                                        \
            for (int turn = 0; turn < TURNS; ++turn) {                                                        \
                _Pragma("GCC unroll 16") for (int i = 0; i < CHAINS; ++i) {                                   \
                    __asm__ volatile("" : "+x"(a)); /* unknown, so that each product is computed */           \
                    step;                                                                                     \
                }                                                                                             \
            }                                                                                                 \
            const double took = now() - from;                                                                 \
            if (took < best) best = took;                                                                     \
            for (int i = 0; i < CHAINS; ++i) {                                                                \
                int32_t first;                                                                                \
                memcpy(&first, &sum[i], sizeof first);                                                        \
                sink += first;                                                                                \
            }                                                                                                 \
        }                                                                                                     \
        return best;                                                                                          \
    }
#define REAL(x) _mm256_set1_ps((float)(x))
#define WORDS(x) _mm256_set1_epi16(x)
#define BYTES(x) _mm256_set1_epi8(x)

TIMED(multiply_add, __m256, REAL, sum[i] = _mm256_fmadd_ps(a, b, sum[i]))
TIMED(words, __m256i, WORDS, sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(a, b)))
TIMED(bytes_16, __m256i, BYTES, sum[i] = _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(a, b)))
TIMED(bytes_32, __m256i, BYTES,
      sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1))))

/* Nanoseconds of reading `size` bytes once. */
static double reading(size_t size)
{
    double best = 1e30;
    char *const data = aligned_alloc(64, size);
    for (size_t i = 0; i < size; ++i) data[i] = (char)i;
    for (int round = 0; round < ROUNDS; ++round) {
        const __m256i zero = _mm256_setzero_si256();
        __m256i part[4] = {zero, zero, zero, zero};
        const double from = now();
        for (int turn = 0; turn < 16; ++turn) {
            for (size_t at = 0; at < size; at += 256)
                _Pragma("GCC unroll 8") for (size_t i = 0; i < 8; ++i) {
                    const __m256i *const line = (const __m256i *)(const void *)(data + at + 32 * i);
                    part[i % 4] = _mm256_xor_si256(part[i % 4], _mm256_load_si256(line));
                }
            __asm__ volatile("" : : : "memory");
        }
        const double took = (now() - from) / 16;
        if (took < best) best = took;
        for (int i = 0; i < 4; ++i) sink += _mm256_extract_epi32(part[i], 0);
    }
    free(data);
    return best;
}

int main(void)
{
    const double steps = (double)TURNS * CHAINS;
    printf("{\"float multiply-add\": %.4g, \"pmaddwd, added to 32 bits\": %.4g, ", 8 * steps / multiply_add(),
           16 * steps / words());
    printf("\"pmaddubsw, added to 32 bits\": %.4g, \"pmaddubsw, added to 16 bits\": %.4g, ", 32 * steps / bytes_32(),
           32 * steps / bytes_16());
    printf("\"bytes from L1\": %.4g, \"bytes from L2\": %.4g}\n", 16384.0 / reading(16384), 262144.0 / reading(262144));
    return 0;
}

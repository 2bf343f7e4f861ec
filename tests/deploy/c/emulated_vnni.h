/* vpdpbusd in plain C, in place of the intrinsic, for processors that do not have it. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

static inline __m256i emulated_dpbusd(const __m256i acc, const __m256i x, const __m256i w)
{
    uint32_t sums[8];
    uint8_t bytes[32];
    int8_t weights[32];
    __m256i out;
    memcpy(sums, &acc, sizeof sums);
    memcpy(bytes, &x, sizeof bytes);
    memcpy(weights, &w, sizeof weights);
    for (int i = 0; i < 32; ++i) sums[i / 4] += (uint32_t)(bytes[i] * weights[i]);
    memcpy(&out, sums, sizeof out);
    return out;
}

#define _mm256_dpbusd_avx_epi32 emulated_dpbusd
#ifndef __AVXVNNI__
#define __AVXVNNI__ 1
#endif

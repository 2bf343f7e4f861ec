/* Kernels for x86-64 with AVX-512 and its VNNI. */
#if defined(__x86_64__)
#include <float.h>
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "target.h"
NQ_TARGET_BEGIN("avx2,fma,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#define LANES 16
#define NQ_AVX2
#define NQ_AVX512
#define NQ_VNNI
#define NQ_KERNELS nq_kernels_vnni
#include "../kernels/avx2/macros.h"
#include "../kernels/avx2/bytes16.h"
#include "kernels.h"
NQ_TARGET_END
#endif

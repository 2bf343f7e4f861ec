/* Kernels for x86-64 with AVX2, FMA and BMI2. */
#if defined(__x86_64__)
#include <float.h>
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "target.h"
NQ_TARGET_BEGIN("avx2,fma,bmi2")
#define LANES 8
#define NQ_AVX2
#define NQ_KERNELS nq_kernels_avx2
#include "../kernels/avx2/macros.h"
#include "../kernels/avx2/bytes16.h"
#include "kernels.h"
NQ_TARGET_END
#endif

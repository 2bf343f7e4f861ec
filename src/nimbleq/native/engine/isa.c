/* Which kernels this processor can run: asked of the processor when a policy is loaded. */
#include "program.h"

#include <string.h>

extern const Kernel nq_kernels_portable[NQ_OPS];
#if defined(__x86_64__)
extern const Kernel nq_kernels_avx2[NQ_OPS], nq_kernels_vnni[NQ_OPS];

static int avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

static int vnni(void)
{
    return avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#endif

const Kernel *nq_kernels(const char *isa)
{
    if (strcmp(isa, "portable") == 0) return nq_kernels_portable;
#if defined(__x86_64__)
    if (strcmp(isa, "avx2") == 0 && avx2()) return nq_kernels_avx2;
    if (strcmp(isa, "avx512-vnni") == 0 && vnni()) return nq_kernels_vnni;
#endif
    return NULL;
}

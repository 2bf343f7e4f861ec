/* Kernels for every processor. */
#define LANES 4
#define NQ_KERNELS nq_kernels_portable
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#include "kernels.h"

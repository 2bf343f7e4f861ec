/* What the outside sees of the policy in a WebAssembly module: the places of its arrays, and two functions. */
#include "nq.h"

#define EXPORT(name) __attribute__((export_name(name)))

static NQ_ELEMENT obs[NQ_OBS_SIZE];
static float values[NQ_ACTIONS];
#ifdef NQ_ACT_MASKED
static uint8_t mask[NQ_ACTIONS];
EXPORT("mask") uint8_t *nq_mask_at(void);
uint8_t *nq_mask_at(void) { return mask; }
#endif

EXPORT("obs") NQ_ELEMENT *nq_obs_at(void);
NQ_ELEMENT *nq_obs_at(void) { return obs; }

EXPORT("values") float *nq_values_at(void);
float *nq_values_at(void) { return values; }

/* The action for what lies in obs (and mask), or -1. */
EXPORT("act") int nq_decide(void);
int nq_decide(void)
{
#ifdef NQ_ACT_MASKED
    return nq_act_masked(obs, mask);
#else
    return nq_act(obs);
#endif
}

/* The action values of obs into values; 0, or -1. */
EXPORT("q") int nq_evaluate(void);
int nq_evaluate(void) { return nq_q(obs, values); }

/* One period of a policy behind its guard: what is linked to measure its code, its constants and its state. */
#include "nq.h"
#include "nq_guard.h"

static nq_guard guard;

#ifdef NQ_ACT_MASKED
int board_step(const NQ_ELEMENT *obs, const uint8_t *mask);
int board_step(const NQ_ELEMENT *obs, const uint8_t *mask)
{
    if (!obs && !mask) nq_guard_init(&guard);
    return nq_guard_act(&guard, obs, mask);
}
#else
int board_step(const NQ_ELEMENT *obs);
int board_step(const NQ_ELEMENT *obs)
{
    if (!obs) nq_guard_init(&guard);
    return nq_guard_act(&guard, obs);
}
#endif

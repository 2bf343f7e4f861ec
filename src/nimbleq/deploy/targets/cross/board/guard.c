/* Answers periods of control loops: in come flags (1: an episode begins, 2: an observation came, 4: a mask came), an
   observation (and a mask); out go the action that stood by, the action, and the faults. */
#include "nq.h"
#include "nq_guard.h"

#include "board.h"

static nq_guard guard;
static NQ_ELEMENT obs[NQ_OBS_SIZE];
#ifdef NQ_ACT_MASKED
#define MASK , flags & 4u ? mask : 0
static uint8_t mask[NQ_ACTIONS];
#else
#define MASK
#endif

int main(void)
{
    uint8_t flags;
    nq_guard_init(&guard);
    while (board_read(&flags, sizeof flags)) {
        int32_t found[3];
        if (!board_read(obs, sizeof obs)) return 1;
#ifdef NQ_ACT_MASKED
        if (!board_read(mask, sizeof mask)) return 1;
#endif
        if (flags & 1u) nq_guard_reset(&guard);
        found[0] = nq_guard_standby(&guard);
        found[1] = nq_guard_act(&guard, flags & 2u ? obs : 0 MASK);
        found[2] = (int32_t)guard.faults;
        board_write(found, sizeof found);
    }
    return 0;
}

/* Answers observations: in come two counts, and then observations (and masks); out go actions and action values.
   With a count above 0 the call of an empty function, or the decision, is repeated so many times for each
   observation, and the stack and the cycles of one decision follow its answer. Behind a guard a decision is one whose
   observation came unchanged, which the guard looks through and lets be; the empty call prepares that, too. */
#include "nq.h"

#include "board.h"

#ifdef NQ_ACT_MASKED
#define GIVEN obs, mask
#define TAKES const NQ_ELEMENT *obs, const uint8_t *mask
#define UNUSED obs == 0 && mask == 0
#define NQ_ALONE nq_act_masked
static uint8_t mask[NQ_ACTIONS];
#else
#define GIVEN obs
#define TAKES const NQ_ELEMENT *obs
#define UNUSED obs == 0
#define NQ_ALONE nq_act
#endif

#ifdef NQ_GUARDED
#include "nq_guard.h"
static nq_guard guard;
static void prepare(const NQ_ELEMENT *obs)
{
    guard.age = 1;
    guard.any_seen = 0;
#ifdef NQ_ENVELOPE
    for (int i = 0; i < NQ_OBS_SIZE; ++i) guard.last[i] = obs[i];
#else
    (void)obs;
#endif
}
static int decision(TAKES)
{
    prepare(obs);
    return nq_guard_act(&guard, GIVEN);
}
static int nothing(TAKES)
{
    prepare(obs);
    return UNUSED;
}
#else
#define decision NQ_ALONE
static int nothing(TAKES) { return UNUSED; }
#endif

typedef int (*decide)(TAKES);
static decide volatile act = decision, empty = nothing;
static NQ_ELEMENT obs[NQ_OBS_SIZE];

/* A call from further below than what `stack_of` cannot paint, its own frame. */
static void call_below(decide volatile *call)
{
    volatile unsigned char space[128];
    space[0] = 0;
    (*call)(GIVEN);
    space[0] = 1;
}
static void (*volatile const below)(decide volatile *) = call_below;

/* Bytes of the stack that a call writes to, measured from this function's frame: paint, call, look. */
static uint32_t stack_of(decide volatile *call)
{
    volatile unsigned char here = 0;
    volatile unsigned char *const top = &here, *const bottom = top - board_stack_bytes;
    for (volatile unsigned char *at = bottom; at < top - 64; ++at) *at = 0xa5;
    below(call);
    volatile unsigned char *at = bottom;
    while (at < top && *at == 0xa5) ++at;
    return (uint32_t)(top - at);
}

/* Cycles of so many calls. */
static uint32_t cycles(decide volatile *call, uint32_t count)
{
    const uint32_t start = board_cycles();
    while (count-- > 0) (*call)(GIVEN);
    return board_cycles() - start;
}

int main(void)
{
    uint32_t again[2]; /* empty calls, decisions */
    float q[NQ_ACTIONS];
#ifdef NQ_GUARDED
    nq_guard_init(&guard);
#endif
    if (!board_read(again, sizeof again)) return 1;
    while (board_read(obs, sizeof obs)) {
#ifdef NQ_ACT_MASKED
        if (!board_read(mask, sizeof mask)) return 1;
#endif
        const int32_t action = act(GIVEN);
        if (nq_q(obs, q) < 0) return 1;
        board_write(&action, sizeof action);
        board_write(q, sizeof q);
        if (again[0] + again[1] > 0) {
            const uint32_t floor = stack_of(&empty), whole = stack_of(&act);
            const uint32_t found[2] = {whole - floor, cycles(&act, again[1]) - cycles(&empty, again[0])};
            board_write(found, sizeof found);
        }
    }
    return 0;
}

/* Threads that share the parts of one piece of work.
 *
 * Who calls does parts, too, and waits for nothing but a part that another thread has begun: on a busy processor it does
 * them all. What a part computes must not depend on who does it.
 */
#ifndef NIMBLEQ_LEARNER_CREW_H
#define NIMBLEQ_LEARNER_CREW_H

#include <stddef.h>

#define CREW_MOST 8

/* Processors that this process may run on, at most CREW_MOST. */
size_t crew_processors(void);

/* work(context, 0) … work(context, parts - 1), each once, on up to `parts` threads; returns when all are done. One caller at
 * a time. */
void crew_share(size_t parts, void (*work)(void *context, size_t part), void *context);

#endif

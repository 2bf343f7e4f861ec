/* See crew.h. A ticket holds the number of the work, how many parts it has, and which is the next: who raises it by one has
 * taken that part, and nobody takes a part of a work that is over. */
#define _GNU_SOURCE
#include "crew.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

/* A thread looks for work so often, some tens of microseconds, then lets others run between two looks, about a millisecond,
 * then sleeps: to wake a thread takes some hundred microseconds on a virtual machine. */
#define LOOKS 4000
#define YIELDS 2000
#define NEXT_WORK ((uint64_t)1 << 32)
#define PARTS ((uint64_t)1 << 16)

static struct {
    _Atomic uint64_t ticket;
    _Atomic(void (*)(void *, size_t)) work;
    _Atomic(void *) context;
    atomic_size_t done;
    atomic_uint asleep;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    pid_t owner; /* a forked process has none of these threads */
    size_t threads;
} crew = {.lock = PTHREAD_MUTEX_INITIALIZER, .woken = PTHREAD_COND_INITIALIZER};

static void wait_a_little(int look)
{
    if (look >= LOOKS)
        sched_yield();
#if defined(__x86_64__) || defined(__i386__)
    else
        __builtin_ia32_pause();
#endif
}

size_t crew_processors(void)
{
#if defined(__linux__)
    cpu_set_t allowed;
    const long count = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
#else
    const long count = sysconf(_SC_NPROCESSORS_ONLN);
#endif
    return count < 1 ? 1 : count > CREW_MOST ? CREW_MOST : (size_t)count;
}

/* Does parts until none is left. */
static void do_parts(void)
{
    for (;;) {
        uint64_t ticket = atomic_load(&crew.ticket);
        const size_t part = ticket % PARTS, parts = ticket % NEXT_WORK / PARTS;
        void (*const work)(void *, size_t) = atomic_load(&crew.work);
        void *const context = atomic_load(&crew.context);
        if (part >= parts)
            return;
        if (atomic_compare_exchange_strong(&crew.ticket, &ticket, ticket + 1)) {
            work(context, part);
            atomic_fetch_add(&crew.done, 1);
        }
    }
}

static void *keep_working(void *unused)
{
    uint64_t seen = 0;
    for (;;) {
        bool found = false;
        for (int look = 0; look < LOOKS + YIELDS && !found; look++) {
            wait_a_little(look);
            found = atomic_load(&crew.ticket) / NEXT_WORK != seen;
        }
        if (!found) {
            pthread_mutex_lock(&crew.lock);
            atomic_fetch_add(&crew.asleep, 1);
            while (atomic_load(&crew.ticket) / NEXT_WORK == seen)
                pthread_cond_wait(&crew.woken, &crew.lock);
            atomic_fetch_sub(&crew.asleep, 1);
            pthread_mutex_unlock(&crew.lock);
        }
        seen = atomic_load(&crew.ticket) / NEXT_WORK;
        do_parts();
    }
    return unused;
}

/* Starts threads until there are `wanted` besides the caller, or no more can be had. Signals go to the others. */
static void recruit(size_t wanted)
{
    if (crew.owner != getpid()) {
        crew.owner = getpid();
        crew.threads = 0;
        atomic_store(&crew.asleep, 0);
        pthread_mutex_init(&crew.lock, NULL);
        pthread_cond_init(&crew.woken, NULL);
    }
    sigset_t all, before;
    sigfillset(&all);
    while (crew.threads < wanted) {
        pthread_t thread;
        pthread_sigmask(SIG_SETMASK, &all, &before);
        const bool started = pthread_create(&thread, NULL, keep_working, NULL) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (!started)
            return;
        pthread_detach(thread);
        crew.threads++;
    }
}

void crew_share(size_t parts, void (*work)(void *context, size_t part), void *context)
{
    if (parts > 1)
        recruit((parts < CREW_MOST ? parts : CREW_MOST) - 1);
    if (parts <= 1 || crew.threads == 0) {
        for (size_t part = 0; part < parts; part++)
            work(context, part);
        return;
    }
    atomic_store(&crew.done, 0);
    atomic_store(&crew.work, work);
    atomic_store(&crew.context, context);
    atomic_store(&crew.ticket, (atomic_load(&crew.ticket) / NEXT_WORK + 1) * NEXT_WORK + parts * PARTS);
    if (atomic_load(&crew.asleep) > 0) {
        pthread_mutex_lock(&crew.lock);
        pthread_cond_broadcast(&crew.woken);
        pthread_mutex_unlock(&crew.lock);
    }
    do_parts();
    for (int look = 0; atomic_load(&crew.done) < parts; look += look < LOOKS)
        wait_a_little(look);
}
#else
size_t crew_processors(void) { return 1; }

void crew_share(size_t parts, void (*work)(void *context, size_t part), void *context)
{
    for (size_t part = 0; part < parts; part++)
        work(context, part);
}
#endif

"""The real-time loop in C, as `nimbleq.serve.loop` is in Python: ``NAME_loop.c`` beside the policy, for POSIX."""

from __future__ import annotations

from nimbleq.deploy.targets.c import text as c_text
from nimbleq.deploy.targets.c.layout import c_type
from nimbleq.graph.graph import Graph

FINE, BUCKETS = 5, 1216


def emit_loop(graph: Graph, name: str) -> dict[str, str]:
    """``{"<name>_loop.c": text, "<name>_loop.h": text}``; the guard's fallback replaces what is late."""
    made = {"c": _source(graph), "h": _header(graph)}
    return {
        f"{name}_loop.{ending}": c_text.renamed(text, name).replace("_NQ_LOOP_H", f"_{name.upper()}_LOOP_H")
        for ending, text in made.items()
    }


def _header(graph: Graph) -> str:
    element = c_type(graph.obs_type)
    mask = ", uint8_t *mask" if graph.masked else ""
    masked = "; mask gets a flag for each action, not 0 where it is legal" if graph.masked else ""
    return f"""/* Sense, decide and act at a fixed rate, with deadlines. POSIX with clock_nanosleep and threads:

     cc -std=c99 -O2 -march=native nq.c nq_guard.c nq_loop.c yours.c -lpthread

   Add the networks of the guard, nq_larger.c and nq_backup.c, where they are there. A decision that is not there at
   the deadline is replaced by the guard's standby action, never delivered late: a second thread, the watchdog, acts in
   every period in which the loop has not. After the start nothing is allocated. */
#ifndef NIMBLEQ_NQ_LOOP_H
#define NIMBLEQ_NQ_LOOP_H

#include <signal.h>
#include <stdint.h>

#include "nq_guard.h"

#ifdef __cplusplus
extern "C" {{
#endif

/* The machine. `sense` puts the newest observation in obs and returns 1; 0: there is no new one{masked}.
   It may wait for a sensor. `act` does the action, at once; it is called by either of two threads, one at a time. */
typedef struct {{
    int (*sense)(void *own, {element} *obs{mask});
    void (*act)(void *own, int action);
    void *own;
}} nq_machine;

typedef struct {{
    int64_t period_ns;
    int64_t deadline_ns;                /* of a period, after which a decision is late */
    uint64_t periods;                   /* 0: until *stop */
    int priority;                       /* of SCHED_FIFO, 1..98 (the watchdog takes one more); 0: no change */
    int core;                           /* that the loop runs on; -1: any */
    volatile sig_atomic_t *stop;        /* not 0 ends the loop; may be NULL */
}} nq_loop_settings;

/* Durations in buckets of 3 %; bucket 64 and above: (32 + i % 32) << (i / 32 - 1) ns. */
typedef struct {{
    uint64_t counts[{BUCKETS}];
    int64_t worst_ns;
}} nq_times;

typedef struct {{
    uint64_t periods, replaced, skipped; /* misses: replaced + skipped */
    int64_t started_ns, ended_ns;
    nq_times wake, jitter, decision, response;
}} nq_loop_report;

/* What went wrong at the start. */
#define NQ_LOOP_OK 0
#define NQ_LOOP_BAD_SETTINGS 1
#define NQ_LOOP_NO_CORE 2
#define NQ_LOOP_NO_PRIORITY 3
#define NQ_LOOP_NO_THREAD 4

/* Run until the periods are over or *stop; `guard` has been initialised. */
int nq_loop(nq_guard *guard, const nq_machine *machine, const nq_loop_settings *settings, nq_loop_report *report);

/* The duration that `share` of all do not exceed, in nanoseconds, at most 3 % too large. */
int64_t nq_percentile(const nq_times *times, double share);

#ifdef __cplusplus
}}
#endif

#endif
"""


def _source(graph: Graph) -> str:
    element, size, actions = c_type(graph.obs_type), graph.obs_type.size, graph.actions
    mask = f"    uint8_t mask[{actions}];\n" if graph.masked else ""
    sensed, given = (", work->mask", ", came ? work->mask : 0") if graph.masked else ("", "")
    none = ", 0" if graph.masked else ""
    return f"""/* The real-time loop of the policy: see nq_loop.h. */
#define _GNU_SOURCE /* pthread_setaffinity_np, where there is one */
#include "nq_loop.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>
#ifdef __linux__
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define SECOND 1000000000
#define MOST_TOLD 1000 /* skipped periods that the guard is told of, at most */

/* What the loop and its watchdog share. */
typedef struct {{
    pthread_mutex_t lock;
    const nq_machine *machine;
    int64_t start, period, deadline;
    int64_t delivered;   /* the last period that has got an action */
    int64_t armed;       /* the period of `first` */
    int first, then;     /* what to do if no decision comes: in that period, and after it */
    int over;
    {element} obs[{size}];
{mask}}} nq_work;

static int64_t nq_now(void)
{{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}}

static void nq_sleep_until(int64_t ns)
{{
    struct timespec until;
    until.tv_sec = (time_t)(ns / SECOND);
    until.tv_nsec = (long)(ns % SECOND);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, 0);
}}

static void nq_count(nq_times *times, int64_t ns)
{{
    int shift = 0, bucket;
    if (ns < 0) ns = 0;
    if (ns > times->worst_ns) times->worst_ns = ns;
    while (ns >> shift >= {2 << FINE}) ++shift;
    bucket = shift * {1 << FINE} + (int)(ns >> shift);
    ++times->counts[bucket < {BUCKETS} ? bucket : {BUCKETS - 1}];
}}

int64_t nq_percentile(const nq_times *times, double share)
{{
    uint64_t total = 0, below = 0;
    double rank;
    for (int i = 0; i < {BUCKETS}; ++i) total += times->counts[i];
    rank = share * (double)total;
    for (int i = 0; total > 0 && i < {BUCKETS}; ++i) {{
        below += times->counts[i];
        if ((double)below >= rank && below > 0) {{
            const int next = i + 1;
            const int64_t steps = {1 << FINE} + next % {1 << FINE};
            const int64_t end = next < {2 << FINE} ? next : steps << (next / {1 << FINE} - 1);
            return end - 1 < times->worst_ns ? end - 1 : times->worst_ns;
        }}
    }}
    return 0;
}}

/* What Linux is asked for a thread: how much later than asked its sleeps may end, and its time slice. Others give way
   at once to one with a short slice (Linux 6.12 and later). */
typedef struct {{
    long slack;
    uint64_t slice;
}} nq_waking;

/* Nanoseconds; returns what they were before. */
static nq_waking nq_wake(nq_waking wanted)
{{
#ifdef __linux__
    nq_waking before = {{prctl(PR_GET_TIMERSLACK, 0L, 0L, 0L, 0L), 0}};
    (void)prctl(PR_SET_TIMERSLACK, wanted.slack, 0L, 0L, 0L);
#if defined(SYS_sched_getattr) && defined(SYS_sched_setattr)
    struct {{ /* as the kernel has it */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    }} attributes;
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0 || attributes.policy != SCHED_OTHER)
        return before;
    before.slice = attributes.runtime;
    attributes.runtime = wanted.slice;
    (void)syscall(SYS_sched_setattr, 0, &attributes, 0);
#endif
    return before;
#else
    return wanted;
#endif
}}

static const nq_waking nq_prompt = {{1, 100000}};

/* Act at the deadline of every period in which the loop has not. */
static void *nq_watch(void *given)
{{
    nq_work *const work = given;
    int64_t period = 0;
    (void)nq_wake(nq_prompt);
    for (;;) {{
        int64_t next;
        int over;
        nq_sleep_until(work->start + period * work->period + work->deadline);
        pthread_mutex_lock(&work->lock);
        over = work->over;
        if (!over && work->delivered < period) {{
            work->machine->act(work->machine->own, work->armed >= period ? work->first : work->then);
            work->delivered = period;
        }}
        pthread_mutex_unlock(&work->lock);
        if (over) return 0;
        next = (nq_now() - work->start - work->deadline) / work->period + 1;
        period = next > period ? next : period + 1;
    }}
}}

static int nq_prioritize(int priority)
{{
    struct sched_param scheduling = {{0}};
    scheduling.sched_priority = priority;
    return pthread_setschedparam(pthread_self(), SCHED_FIFO, &scheduling) == 0;
}}

/* The core, and the priority of the watchdog, which inherits both: it has to interrupt what takes too long. */
static int nq_schedule(const nq_loop_settings *settings)
{{
#ifdef __linux__
    if (settings->core >= 0) {{
        cpu_set_t cores;
        CPU_ZERO(&cores);
        if (settings->core >= CPU_SETSIZE) return NQ_LOOP_NO_CORE;
        CPU_SET((unsigned)settings->core, &cores);
        if (pthread_setaffinity_np(pthread_self(), sizeof cores, &cores) != 0) return NQ_LOOP_NO_CORE;
    }}
#else
    if (settings->core >= 0) return NQ_LOOP_NO_CORE;
#endif
    if (settings->priority > 0 && !nq_prioritize(settings->priority + 1)) return NQ_LOOP_NO_PRIORITY;
    return NQ_LOOP_OK;
}}

static void nq_arm(nq_work *work, const nq_guard *guard, int64_t period)
{{
    const int first = nq_guard_standby(guard), then = nq_guard_standby_later(guard);
    pthread_mutex_lock(&work->lock);
    work->armed = period;
    work->first = first;
    work->then = then;
    pthread_mutex_unlock(&work->lock);
}}

/* Act in time, after the deadline with the standby action; whether it was the decision that was delivered. */
static int nq_deliver(nq_work *work, int64_t period, int action)
{{
    int in_time = 0;
    pthread_mutex_lock(&work->lock);
    if (work->delivered < period) {{
        in_time = nq_now() <= work->start + period * work->period + work->deadline;
        work->machine->act(work->machine->own, in_time ? action : work->first);
        work->delivered = period;
    }}
    pthread_mutex_unlock(&work->lock);
    return in_time;
}}

static void nq_turn(nq_work *work, nq_guard *guard, const nq_machine *machine, const nq_loop_settings *settings,
                    nq_loop_report *report)
{{
    const int64_t limit = settings->periods > INT64_MAX ? INT64_MAX : (int64_t)settings->periods;
    int64_t index = 0, last = work->start - work->period;
    while ((limit == 0 || index < limit) && !(settings->stop && *settings->stop)) {{
        const int64_t due = work->start + index * work->period;
        int64_t woke, began, decided, done, gone;
        int action, came;
        nq_sleep_until(due);
        woke = nq_now();
        if (woke < due) continue; /* a signal */
        nq_arm(work, guard, index);
        came = machine->sense(machine->own, work->obs{sensed});
        began = nq_now();
        action = nq_guard_act(guard, came ? work->obs : 0{given});
        decided = nq_now();
        if (!nq_deliver(work, index, action)) {{
            ++guard->counts[NQ_GUARD_LATE];
            ++report->replaced;
        }}
        done = nq_now();
        nq_count(&report->wake, woke - due);
        nq_count(&report->jitter, woke - last > work->period ? woke - last - work->period : last + work->period - woke);
        nq_count(&report->decision, decided - began);
        nq_count(&report->response, done - due);
        last = woke;
        ++index;
        gone = (done - work->start) / work->period - index;
        if (limit > 0 && gone > limit - index) gone = limit - index;
        if (gone > 0) {{ /* periods that the watchdog has acted in: the guard gets no observation in them */
            for (int64_t i = 0; i < gone && i < MOST_TOLD; ++i) (void)nq_guard_act(guard, 0{none});
            report->skipped += (uint64_t)gone;
            index += gone;
            last = work->start + (index - 1) * work->period;
        }}
        report->periods = (uint64_t)index;
    }}
}}

int nq_loop(nq_guard *guard, const nq_machine *machine, const nq_loop_settings *settings, nq_loop_report *report)
{{
    static const nq_loop_report nothing;
    nq_work work;
    pthread_t watchdog;
    nq_waking before;
    int wrong;
    *report = nothing;
    if (settings->period_ns <= 0 || settings->deadline_ns <= 0 || settings->deadline_ns > settings->period_ns)
        return NQ_LOOP_BAD_SETTINGS;
    wrong = nq_schedule(settings);
    if (wrong != NQ_LOOP_OK) return wrong;
    if (pthread_mutex_init(&work.lock, 0) != 0) return NQ_LOOP_NO_THREAD;
    work.machine = machine;
    work.period = settings->period_ns;
    work.deadline = settings->deadline_ns;
    work.start = nq_now() + 2 * settings->period_ns + 2000000;
    work.delivered = -1;
    work.armed = -1;
    work.first = nq_guard_standby(guard);
    work.then = nq_guard_standby_later(guard);
    work.over = 0;
    report->started_ns = work.start;
    before = nq_wake(nq_prompt);
    if (pthread_create(&watchdog, 0, nq_watch, &work) != 0) {{
        (void)nq_wake(before);
        pthread_mutex_destroy(&work.lock);
        return NQ_LOOP_NO_THREAD;
    }}
    if (settings->priority > 0) (void)nq_prioritize(settings->priority);
    nq_turn(&work, guard, machine, settings, report);
    (void)nq_wake(before);
    pthread_mutex_lock(&work.lock);
    work.over = 1;
    pthread_mutex_unlock(&work.lock);
    pthread_join(watchdog, 0);
    pthread_mutex_destroy(&work.lock);
    report->ended_ns = nq_now();
    return NQ_LOOP_OK;
}}
"""

/* The emitted loop, and beside it an empty one in a second thread, whose periods begin a quarter of a period later and,
   every other slice, earlier: the watchdog wakes the core in the middle of the loop's periods. SLICES PERIODS HZ,
   observations on standard input.

   Prints two lines per slice: whose it is, periods, misses, and p50, p99.9 and worst in ns of the decision (of the loop
   only), of late waking and of the period jitter. */
#define _GNU_SOURCE
#include "policy.h"
#include "policy_loop.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static float observations[COUNT][POLICY_OBS_SIZE];
static long sensed;
static volatile int sink;

static int sense(void *own, float *obs)
{
    const float *from = observations[sensed++ % COUNT];
    (void)own;
    for (int i = 0; i < POLICY_OBS_SIZE; ++i) obs[i] = from[i];
    return 1;
}

static void act(void *own, int action)
{
    (void)own;
    sink = action;
}

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1000000000LL * now.tv_sec + now.tv_nsec;
}

static void show(const char *who, long long periods, long long misses, const policy_loop_report *report)
{
    const policy_times *all[3] = {&report->decision, &report->wake, &report->jitter};
    printf("%s %lld %lld", who, periods, misses);
    for (int i = 0; i < 3; ++i)
        printf(" %lld %lld %lld", (long long)policy_percentile(all[i], 0.5),
               (long long)policy_percentile(all[i], 0.999), (long long)all[i]->worst_ns);
    printf("\n");
}

/* Durations in the buckets of the loop. */
static void count(policy_times *times, long long ns)
{
    int shift = 0, bucket;
    if (ns < 0) ns = 0;
    if (ns > times->worst_ns) times->worst_ns = ns;
    while (ns >> shift >= 64) ++shift;
    bucket = shift * 32 + (int)(ns >> shift);
    ++times->counts[bucket < 1216 ? bucket : 1215];
}

static long long periods, period, misses, phase;
static policy_loop_report idle;

/* What the loop asks the kernel for, too. */
static void prompt(void)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes;
    (void)prctl(PR_SET_TIMERSLACK, 1L, 0L, 0L, 0L);
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0) return;
    attributes.runtime = 100000;
    (void)syscall(SYS_sched_setattr, 0, &attributes, 0);
}

/* Sleeps and wakes, and does nothing: what this machine can do. */
static void *empty(void *given)
{
    static const policy_loop_report nothing;
    policy_loop_report *const report = &idle;
    const long long start = now_ns() + 2 * period + 2000000 + phase;
    long long index = 0, last = start - period;
    prompt();
    *report = nothing;
    misses = 0;
    while (index < periods) {
        const long long due = start + index * period;
        const struct timespec until = {(time_t)(due / 1000000000), (long)(due % 1000000000)};
        long long woke, gone;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, 0);
        woke = now_ns();
        if (woke < due) continue;
        if (woke > due + period / 2) ++misses;
        count(&report->wake, woke - due);
        count(&report->jitter, woke - last > period ? woke - last - period : last + period - woke);
        last = woke;
        gone = (now_ns() - start) / period - ++index;
        if (gone > periods - index) gone = periods - index;
        if (gone > 0) {
            misses += gone;
            index += gone;
            last = start + (index - 1) * period;
        }
    }
    return given;
}

int main(int argc, char **argv)
{
    static policy_guard guard;
    static policy_loop_report report;
    const policy_machine machine = {sense, act, 0};
    if (argc != 4 || fread(observations, sizeof observations, 1, stdin) != 1) return 2;
    const long slices = atol(argv[1]);
    pthread_t beside;
    periods = atoll(argv[2]);
    period = (long long)(1e9 / atof(argv[3]));
    const policy_loop_settings settings = {period, period / 2, (uint64_t)periods, 0, -1, 0};
    policy_guard_init(&guard);
    for (long slice = 0; slice < slices; ++slice) {
        policy_guard_reset(&guard);
        phase = slice % 2 == 0 ? period / 4 : -period / 4;
        if (pthread_create(&beside, 0, empty, 0) != 0) return 4;
        if (policy_loop(&guard, &machine, &settings, &report) != POLICY_LOOP_OK) return 3;
        show("loop", (long long)report.periods, (long long)(report.replaced + report.skipped), &report);
        pthread_join(beside, 0);
        show("empty", periods, misses, &idle);
    }
    return 0;
}

/* A policy in a loop: MODE DECISIONS, observations on standard input.

   audit  no system call but write is allowed while it decides (seccomp, strict); prints allocations and locks
   span   a system call after each decision, between which `span.c` counts instructions
   time   nanoseconds of each decision and of each empty loop of the same length beside it, as doubles */
#define _GNU_SOURCE
#include "policy.h"

#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

extern void audit_counts(uint64_t *out) __attribute__((weak));

static ELEMENT observations[COUNT][POLICY_OBS_SIZE];
static volatile int sink;

static void audit(long decisions)
{
    uint64_t before[2] = {0, 0}, after[2] = {0, 0};
    char line[128];
    sink = policy_act(observations[0]);
    if (audit_counts) audit_counts(before);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) exit(3);
    for (long i = 0; i < decisions; ++i) sink = policy_act(observations[i % COUNT]);
    if (audit_counts) audit_counts(after);
    int size = snprintf(line, sizeof line, "%llu %llu\n", (unsigned long long)(after[0] - before[0]),
                        (unsigned long long)(after[1] - before[1]));
    if (write(1, line, (size_t)size) != size) syscall(SYS_exit, 4);
    syscall(SYS_exit, 0);
}

static void span(void)
{
    for (long i = -1; i < COUNT; ++i) { /* the first turn begins the count: what is before the loop is not in it */
        sink = policy_act(observations[i < 0 ? 0 : i]);
        syscall(SYS_getppid);
    }
}

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e9 * (double)now.tv_sec + (double)now.tv_nsec;
}

static void empty(long turns)
{
    for (volatile long i = 0; i < turns; ++i) {}
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(double *times, long count)
{
    qsort(times, (size_t)count, sizeof *times, ascending);
    return times[count / 2];
}

/* Turns of the empty loop that take as long as one decision. */
static long same_length(void)
{
    enum { TRIES = 2001 };
    static double act[TRIES], loop[TRIES];
    for (long i = 0; i < TRIES; ++i) {
        double start = now_ns();
        sink = policy_act(observations[i % COUNT]);
        act[i] = now_ns() - start;
        start = now_ns();
        empty(10000);
        loop[i] = now_ns() - start;
    }
    double start = now_ns();
    for (long i = 0; i < TRIES; ++i) sink = (int)now_ns();
    double clock = (now_ns() - start) / TRIES;
    double turns = 10000 * (median_of(act, TRIES) - clock) / (median_of(loop, TRIES) - clock);
    return turns < 1 ? 1 : (long)turns;
}

static void timed(long decisions)
{
    double *times = calloc((size_t)(2 * decisions), sizeof *times);
    long turns = same_length();
    if (times == NULL) exit(5);
    memset(times, 1, (size_t)(2 * decisions) * sizeof *times);
    for (long i = 0; i < decisions; ++i) {
        double start = now_ns();
        sink = policy_act(observations[i % COUNT]);
        double middle = now_ns();
        empty(turns);
        double end = now_ns();
        times[i] = middle - start;
        times[decisions + i] = end - middle;
    }
    fwrite(times, sizeof *times, (size_t)(2 * decisions), stdout);
}

int main(int argc, char **argv)
{
    if (argc != 3 || fread(observations, sizeof observations, 1, stdin) != 1) return 2;
    if (strcmp(argv[1], "audit") == 0) audit(atol(argv[2]));
    if (strcmp(argv[1], "span") == 0) span();
    if (strcmp(argv[1], "time") == 0) timed(atol(argv[2]));
    return 0;
}

/* Preloaded (LD_PRELOAD): counts what a program allocates and locks. glibc's own names are behind the ones replaced. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static uint64_t allocations, locks;

#define COUNT(what) __atomic_fetch_add(&(what), 1, __ATOMIC_RELAXED)

void audit_counts(uint64_t *out)
{
    out[0] = __atomic_load_n(&allocations, __ATOMIC_RELAXED);
    out[1] = __atomic_load_n(&locks, __ATOMIC_RELAXED);
}

void *malloc(size_t size)
{
    COUNT(allocations);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    COUNT(allocations);
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    COUNT(allocations);
    return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size)
{
    COUNT(allocations);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    COUNT(allocations);
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    COUNT(allocations);
    *out = __libc_memalign(alignment, size);
    return *out == NULL ? ENOMEM : 0;
}

/* The next definition of a function that takes one lock, looked up once. */
#define LOCK(name, type)                                            \
    int name(type *lock)                                            \
    {                                                               \
        static int (*next)(type *);                                 \
        if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, #name); \
        COUNT(locks);                                               \
        return next(lock);                                          \
    }

LOCK(pthread_mutex_lock, pthread_mutex_t)
LOCK(pthread_mutex_trylock, pthread_mutex_t)
LOCK(pthread_rwlock_rdlock, pthread_rwlock_t)
LOCK(pthread_rwlock_wrlock, pthread_rwlock_t)

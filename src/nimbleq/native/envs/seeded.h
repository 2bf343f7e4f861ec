/* The numbers of `numpy.random.Generator(PCG64(SeedSequence(seed)))`, without making such objects.
 *
 * SeedSequence spreads a seed over four words (O'Neill 2015, "Developing a seed_seq alternative"); PCG64 is a linear
 * congruential generator of 128 bits whose output is folded and rotated, XSL-RR (O'Neill 2014, HMC-CS-2014-0905). */
#ifndef NIMBLEQ_ENVS_SEEDED_H
#define NIMBLEQ_ENVS_SEEDED_H
#include <stdint.h>

enum { POOL = 4, WORDS = 8 };

typedef struct {
    uint64_t high, low;
} Wide;

typedef struct {
    Wide state, increment;
} Generator;

static inline uint32_t hashed(uint32_t value, uint32_t *constant, uint32_t factor)
{
    value ^= *constant;
    *constant *= factor;
    value *= *constant;
    return value ^ value >> 16;
}

static inline uint32_t mixed(uint32_t x, uint32_t y)
{
    const uint32_t mix = UINT32_C(0xca01f9dd) * x - UINT32_C(0x4973f715) * y;
    return mix ^ mix >> 16;
}

/* SeedSequence(seed).generate_state(4, uint64), as words of 32 bits, the low one of each pair first. */
static inline void spread(uint64_t seed, uint32_t words[WORDS])
{
    const uint32_t entropy[POOL] = {(uint32_t)seed, (uint32_t)(seed >> 32), 0, 0};
    uint32_t pool[POOL], constant = UINT32_C(0x43b0d7e5);
    for (int i = 0; i < POOL; i++)
        pool[i] = hashed(entropy[i], &constant, UINT32_C(0x931e8875));
    for (int from = 0; from < POOL; from++)
        for (int to = 0; to < POOL; to++)
            if (from != to)
                pool[to] = mixed(pool[to], hashed(pool[from], &constant, UINT32_C(0x931e8875)));
    constant = UINT32_C(0x8b51f9dd);
    for (int i = 0; i < WORDS; i++)
        words[i] = hashed(pool[i % POOL], &constant, UINT32_C(0x58f38ded));
}

static inline Wide plus(Wide a, Wide b)
{
    const uint64_t low = a.low + b.low;
    return (Wide){a.high + b.high + (low < a.low), low};
}

/* Modulo 2^128, by halves of 32 bits where a product of 64 bits would not fit. */
static inline Wide times(Wide a, Wide b)
{
    const uint64_t mask = UINT32_MAX, a0 = a.low & mask, a1 = a.low >> 32, b0 = b.low & mask, b1 = b.low >> 32;
    const uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), other = a0 * b1 + (middle & mask);
    const uint64_t carried = a1 * b1 + (middle >> 32) + (other >> 32);
    return (Wide){carried + a.high * b.low + a.low * b.high, a.low * b.low};
}

static inline void advance(Generator *generator)
{
    const Wide factor = {UINT64_C(2549297995355413924), UINT64_C(4865540595714422341)};
    generator->state = plus(times(generator->state, factor), generator->increment);
}

static inline Generator seeded(uint64_t seed)
{
    uint32_t words[WORDS];
    uint64_t number[WORDS / 2];
    spread(seed, words);
    for (int i = 0; i < WORDS / 2; i++)
        number[i] = (uint64_t)words[2 * i + 1] << 32 | words[2 * i];
    const Wide increment = {number[2] << 1 | number[3] >> 63, number[3] << 1 | 1};
    Generator generator = {{0, 0}, increment};
    advance(&generator);
    generator.state = plus(generator.state, (Wide){number[0], number[1]});
    advance(&generator);
    return generator;
}

/* `Generator.random()`: 53 bits. */
static inline double random_of(Generator *generator)
{
    advance(generator);
    const uint64_t folded = generator->state.high ^ generator->state.low;
    const unsigned turn = (unsigned)(generator->state.high >> 58);
    const uint64_t bits = folded >> turn | folded << (-turn & 63);
    return (double)(bits >> 11) * (1.0 / 9007199254740992.0);
}

/* `Generator.uniform(low, high)`. */
static inline double uniform_of(Generator *generator, double low, double high)
{
    return low + (high - low) * random_of(generator);
}

#endif

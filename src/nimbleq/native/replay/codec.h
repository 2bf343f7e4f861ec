/* Lossless code for a plane of pixels as its difference (xor) from another plane, the key. In games nearly all of it is
 * zero. Made for random access: a plane needs its key and nothing else, and decoding costs little more than a memcpy.
 *
 * What is kept, with a group being 8 pixels and bits counting from the lowest:
 *   1. one bit per group: does it differ?          (pixels + 63) / 64 bytes
 *   2. for each group that does, one byte: which of its pixels differ?
 *   3. the differences that are not zero.
 * nimbleq/rl/replay/shared_frames.py has the same code in numpy. */
#ifndef NQ_REPLAY_CODEC_H
#define NQ_REPLAY_CODEC_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#ifdef __BMI2__
#include <immintrin.h>
#endif

enum { CODE_SLACK = 8 }; /* readable bytes that decoding needs behind a code */

static inline size_t group_count(size_t pixels) { return (pixels + 7) / 8; }
static inline size_t head_bytes(size_t pixels) { return (group_count(pixels) + 7) / 8; }
static inline size_t code_room(size_t pixels) { return head_bytes(pixels) + group_count(pixels) + pixels; }

/* Pixels of a group; the last one may be shorter. */
static inline size_t group_size(size_t pixels, size_t group)
{
    return pixels - 8 * group < 8 ? pixels - 8 * group : 8;
}

/* Writes the code of `plane` to `code` (code_room bytes; `literal` has `pixels`); returns its length. */
static size_t encode(size_t pixels, const uint8_t *restrict plane, const uint8_t *restrict key, uint8_t *restrict code,
                     uint8_t *restrict literal)
{
    const size_t head = head_bytes(pixels);
    uint8_t *mask_out = code + head;
    size_t literals = 0, masks = 0;
    memset(code, 0, head);
    for (size_t group = 0; group < group_count(pixels); group++) {
        const size_t first = 8 * group, size = group_size(pixels, group);
        if (size == 8 ? memcmp(plane + first, key + first, 8) == 0 : memcmp(plane + first, key + first, size) == 0)
            continue;
        unsigned mask = 0;
        for (size_t i = 0; i < size; i++) {
            const uint8_t difference = plane[first + i] ^ key[first + i];
            const unsigned kept = difference != 0;
            mask |= kept << i;
            literal[literals] = difference;
            literals += kept;
        }
        mask_out[masks++] = (uint8_t)mask;
        code[group / 8] |= (uint8_t)(1u << (group % 8));
    }
    memcpy(mask_out + masks, literal, literals);
    return head + masks + literals;
}

static inline size_t ones(const uint8_t *bytes, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += (size_t)__builtin_popcount(bytes[i]);
    return total;
}

/* Whether `length` bytes are a code, so that decoding them stays within a plane. */
static bool code_is_sound(size_t pixels, const uint8_t *code, size_t length)
{
    const size_t head = head_bytes(pixels), groups = group_count(pixels);
    if (length < head || (groups % 8 != 0 && code[head - 1] >> (groups % 8) != 0))
        return false;
    const size_t masks = ones(code, head);
    if (length < head + masks || length != head + masks + ones(code + head, masks))
        return false;
    const bool last_differs = code[head - 1] >> ((groups - 1) % 8) & 1;
    return !last_differs || code[head + masks - 1] >> group_size(pixels, groups - 1) == 0;
}

/* Changes the first pixels of a group; returns how many differences it used. `size` 8 is the fast one. */
static inline size_t change(unsigned mask, const uint8_t *restrict literal, uint8_t *restrict pixel, size_t size)
{
#ifdef __BMI2__
    if (size == 8) {
        uint64_t differences, values;
        memcpy(&differences, literal, 8);
        memcpy(&values, pixel, 8);
        values ^= _pdep_u64(differences, _pdep_u64(mask, 0x0101010101010101u) * 0xFF);
        memcpy(pixel, &values, 8);
        return (size_t)__builtin_popcount(mask);
    }
#endif
    (void)size;
    size_t used = 0;
    for (; mask != 0; mask &= mask - 1)
        pixel[__builtin_ctz(mask)] ^= literal[used++];
    return used;
}

/* Reads a sound code (with CODE_SLACK bytes behind it) into `plane`. */
static void decode(size_t pixels, const uint8_t *restrict code, const uint8_t *restrict key, uint8_t *restrict plane)
{
    const size_t head = head_bytes(pixels);
    const uint8_t *mask = code + head, *literal = mask + ones(code, head);
    memcpy(plane, key, pixels);
    for (size_t i = 0; i < head; i++)
        for (unsigned bits = code[i]; bits != 0; bits &= bits - 1) {
            const size_t group = 8 * i + (size_t)__builtin_ctz(bits);
            literal += change(*mask++, literal, plane + 8 * group, group_size(pixels, group));
        }
}

#endif

/* Planes of pixels by number, with counted references: a plane is forgotten when nothing refers to it any more.
 *
 * A plane is kept whole, or as its difference from a key, a plane that is kept whole and that it refers to. */
#ifndef NQ_REPLAY_FRAMES_H
#define NQ_REPLAY_FRAMES_H

#include "codec.h"

#include <stdlib.h>

enum { WHOLE = -1 }; /* in place of a key */

typedef struct {
    size_t pixels;
    bool compress;
    size_t count, room; /* numbers given out so far; entries that the tables have room for */
    size_t spare_count;
    uint8_t **code;   /* NULL: nobody has this number */
    uint32_t *length; /* of the code in bytes; 0: nobody has this number */
    int32_t *key;
    int32_t *references;
    int32_t *spare; /* numbers to give out again, last first */
    uint8_t *buffer, *literal, *near;
} Frames;

static bool frames_create(Frames *frames, size_t pixels, bool compress)
{
    frames->pixels = pixels;
    frames->compress = compress;
    frames->buffer = malloc(code_room(pixels));
    frames->literal = malloc(pixels + 1); /* where a difference of zero is written and not kept */
    frames->near = malloc(pixels);
    return frames->buffer != NULL && frames->literal != NULL && frames->near != NULL;
}

static void frames_clear(Frames *frames)
{
    for (size_t i = 0; i < frames->count; i++)
        free(frames->code[i]);
    frames->count = frames->spare_count = 0;
}

static void frames_free(Frames *frames)
{
    frames_clear(frames);
    free(frames->code), free(frames->length), free(frames->key), free(frames->references), free(frames->spare);
    free(frames->buffer), free(frames->literal), free(frames->near);
}

static bool grow(void **table, size_t room, size_t size)
{
    void *bigger = realloc(*table, room * size);
    if (bigger != NULL)
        *table = bigger;
    return bigger != NULL;
}

static bool frames_reserve(Frames *frames, size_t count)
{
    if (count <= frames->room)
        return true;
    const size_t room = count > 2 * frames->room ? count : 2 * frames->room;
    if (!grow((void **)&frames->code, room, sizeof *frames->code) ||
        !grow((void **)&frames->length, room, sizeof *frames->length) ||
        !grow((void **)&frames->key, room, sizeof *frames->key) ||
        !grow((void **)&frames->references, room, sizeof *frames->references) ||
        !grow((void **)&frames->spare, room, sizeof *frames->spare))
        return false;
    frames->room = room;
    return true;
}

static inline bool frames_has(const Frames *frames, int32_t id)
{
    return id >= 0 && (size_t)id < frames->count && frames->code[id] != NULL;
}

static inline void frames_read(const Frames *frames, int32_t id, uint8_t *plane)
{
    const int32_t key = frames->key[id];
    if (key == WHOLE)
        memcpy(plane, frames->code[id], frames->pixels);
    else if (frames_has(frames, key) && frames->key[key] == WHOLE)
        decode(frames->pixels, frames->code[id], frames->code[key], plane);
    else
        memset(plane, 0, frames->pixels); /* only after loading counts that somebody made up */
}

/* Codes `plane` as its difference from `key` into frames->buffer; 0 when it had better become a key itself: it differs
 * too much, or its predecessor `near` would be a far better key (the scene has changed for good). */
static size_t frames_encode(Frames *frames, const uint8_t *plane, const uint8_t *key, const uint8_t *near)
{
    const size_t length = encode(frames->pixels, plane, key, frames->buffer, frames->literal);
    if (length >= frames->pixels)
        return 0;
    if (8 * length <= frames->pixels || near == key)
        return length;
    if (length > 2 * encode(frames->pixels, plane, near, frames->buffer, frames->literal))
        return 0;
    return encode(frames->pixels, plane, key, frames->buffer, frames->literal);
}

/* Gives the number `id` a copy of a code. */
static bool frames_keep(Frames *frames, int32_t id, const uint8_t *code, size_t length, int32_t key)
{
    const size_t slack = key == WHOLE ? 0 : CODE_SLACK;
    uint8_t *kept = malloc(length + slack);
    if (kept == NULL)
        return false;
    memcpy(kept, code, length);
    memset(kept + length, 0, slack);
    frames->code[id] = kept;
    frames->length[id] = (uint32_t)length;
    frames->key[id] = key;
    return true;
}

/* Remembers one plane with one reference; `near` is the number of one that is probably similar, or negative. Its number,
 * or -1 without memory. */
static int32_t frames_put(Frames *frames, const uint8_t *plane, int32_t near)
{
    if (frames->spare_count == 0 && !frames_reserve(frames, frames->count + 1))
        return -1;
    const int32_t id = frames->spare_count > 0 ? frames->spare[frames->spare_count - 1] : (int32_t)frames->count;
    int32_t key = WHOLE;
    size_t length = 0;
    if (frames->compress && frames_has(frames, near))
        key = frames->key[near] == WHOLE ? near : frames->key[near];
    if (key != WHOLE && frames_has(frames, key)) { /* it always is, unless somebody made counts up */
        const uint8_t *similar = frames->code[key];
        if (key != near) {
            frames_read(frames, near, frames->near);
            similar = frames->near;
        }
        length = frames_encode(frames, plane, frames->code[key], similar);
    }
    if (!(length > 0 ? frames_keep(frames, id, frames->buffer, length, key)
                     : frames_keep(frames, id, plane, frames->pixels, WHOLE)))
        return -1;
    if (length > 0)
        frames->references[key]++;
    if (frames->spare_count > 0)
        frames->spare_count--;
    else
        frames->count++;
    frames->references[id] = 1;
    return id;
}

static void frames_release(Frames *frames, int32_t id)
{
    if (frames->references[id] <= 0 || --frames->references[id] > 0)
        return; /* the former only with counts that somebody made up */
    const int32_t key = frames->key[id];
    free(frames->code[id]);
    frames->code[id] = NULL;
    frames->length[id] = 0;
    frames->key[id] = WHOLE;
    frames->spare[frames->spare_count++] = id;
    if (key != WHOLE)
        frames_release(frames, key);
}

#endif

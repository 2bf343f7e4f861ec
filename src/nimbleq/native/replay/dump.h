/* Planes on their way to a checkpoint and back. */
#ifndef NQ_REPLAY_DUMP_H
#define NQ_REPLAY_DUMP_H

#include "arrays.h"

#include "frames.h"

/* Appends bytes to a bytearray of which `used` are used. */
static bool append(PyObject *bytes, size_t *used, const uint8_t *more, size_t count)
{
    const size_t needed = *used + count;
    if (needed > (size_t)PyByteArray_GET_SIZE(bytes) &&
        PyByteArray_Resize(bytes, (Py_ssize_t)(needed + needed / 8 + (1 << 20))) < 0)
        return false;
    memcpy(PyByteArray_AS_STRING(bytes) + *used, more, count);
    *used = needed;
    return true;
}

/* The codes of some planes, one after the other; `length` and `key` are written to say how to read them. On disk planes
 * are compressed, also those that are whole in memory: each as its difference from one before it in the same call. */
static PyObject *codes_of(Frames *frames, const int32_t *ids, size_t count, uint32_t *length, int32_t *key)
{
    PyObject *codes = PyByteArray_FromStringAndSize(NULL, 0);
    size_t used = 0;
    int32_t before = WHOLE, key_before = WHOLE;
    for (size_t i = 0; i < count && codes != NULL; i++) {
        const int32_t id = ids[i];
        const uint8_t *code = frames->code[id];
        length[i] = frames->length[id];
        key[i] = frames->key[id];
        if (!frames->compress && before != WHOLE) {
            const size_t coded = frames_encode(frames, code, frames->code[key_before], frames->code[before]);
            if (coded > 0) {
                code = frames->buffer;
                length[i] = (uint32_t)coded;
                key[i] = key_before;
            }
        }
        before = id;
        key_before = key[i] == WHOLE ? before : key[i];
        if (!append(codes, &used, code, length[i]))
            Py_CLEAR(codes);
    }
    if (codes != NULL && PyByteArray_Resize(codes, (Py_ssize_t)used) < 0)
        Py_CLEAR(codes);
    return codes;
}

typedef enum { LOADED, UNSOUND, NO_MEMORY } Loaded;

/* Forgets everything; from now on there are `count` numbers with these references, and those in `spare` are free. */
static Loaded frames_restore(Frames *frames, const int32_t *references, size_t count, const int32_t *spare,
                             size_t spare_count)
{
    size_t unused = 0;
    for (size_t id = 0; id < count; id++) {
        if (references[id] < 0)
            return UNSOUND;
        unused += references[id] == 0;
    }
    for (size_t i = 0; i < spare_count; i++)
        if (spare[i] < 0 || (size_t)spare[i] >= count || references[spare[i]] != 0)
            return UNSOUND;
    if (unused != spare_count)
        return UNSOUND;
    frames_clear(frames);
    if (!frames_reserve(frames, count))
        return NO_MEMORY;
    for (size_t id = 0; id < count; id++)
        frames->code[id] = NULL, frames->length[id] = 0, frames->key[id] = WHOLE;
    if (count > 0)
        memcpy(frames->references, references, count * sizeof *references);
    if (spare_count > 0)
        memcpy(frames->spare, spare, spare_count * sizeof *spare);
    frames->count = count;
    frames->spare_count = spare_count;
    return LOADED;
}

static void frames_drop(Frames *frames, size_t id)
{
    free(frames->code[id]);
    frames->code[id] = NULL;
    frames->length[id] = 0;
    frames->key[id] = WHOLE;
}

/* Gives planes their numbers back; the arguments are what `codes_of` took and gave. Reading them stays within memory. */
static Loaded frames_place(Frames *frames, const int32_t *ids, size_t count, const uint8_t *code, size_t bytes,
                           const uint32_t *length, const int32_t *key)
{
    for (size_t i = 0; i < count; i++) {
        const int32_t id = ids[i];
        if (id < 0 || (size_t)id >= frames->count || length[i] == 0 || length[i] > bytes)
            return UNSOUND;
        if (key[i] == WHOLE ? length[i] != frames->pixels : !code_is_sound(frames->pixels, code, length[i]))
            return UNSOUND;
        const bool expand = !frames->compress && key[i] != WHOLE;
        if (expand && (key[i] == id || !frames_has(frames, key[i])))
            return UNSOUND;
        frames_drop(frames, (size_t)id);
        if (!frames_keep(frames, id, code, length[i], key[i]))
            return NO_MEMORY;
        if (expand) {
            frames_read(frames, id, frames->near);
            frames_drop(frames, (size_t)id);
            if (!frames_keep(frames, id, frames->near, frames->pixels, WHOLE))
                return NO_MEMORY;
        }
        code += length[i];
        bytes -= length[i];
    }
    return bytes == 0 ? LOADED : UNSOUND;
}

/* Forgets the planes without references. Sound: all others are there, with their keys, and each key is referred to at
 * least as often as planes depend on it. */
static Loaded frames_settle(Frames *frames)
{
    for (size_t id = 0; id < frames->count; id++)
        if (frames->references[id] == 0)
            frames_drop(frames, id);
    int32_t *dependents = calloc(frames->count + 1, sizeof *dependents);
    if (dependents == NULL)
        return NO_MEMORY;
    bool sound = true;
    for (size_t id = 0; id < frames->count && sound; id++) {
        const int32_t key = frames->key[id];
        sound = frames->references[id] == 0 || frames->code[id] != NULL;
        if (key != WHOLE) {
            sound = sound && frames_has(frames, key) && frames->key[key] == WHOLE;
            sound = sound && ++dependents[key] <= frames->references[key];
        }
    }
    free(dependents);
    return sound ? LOADED : UNSOUND;
}

#endif

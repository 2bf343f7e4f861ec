/* All planes on their way to a checkpoint and back. */
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

/* All codes, one after the other. On disk planes are compressed, also those that are whole in memory: `length` and `key`
 * are rewritten to say how. */
static PyObject *all_codes(Frames *frames, uint32_t *length, int32_t *key)
{
    PyObject *codes = PyByteArray_FromStringAndSize(NULL, 0);
    size_t used = 0;
    int32_t before = WHOLE, key_before = WHOLE;
    for (size_t id = 0; id < frames->count && codes != NULL; id++) {
        const uint8_t *code = frames->code[id];
        if (code == NULL)
            continue;
        if (!frames->compress && before != WHOLE) {
            const size_t coded = frames_encode(frames, code, frames->code[key_before], frames->code[before]);
            if (coded > 0) {
                code = frames->buffer;
                length[id] = (uint32_t)coded;
                key[id] = key_before;
            }
        }
        before = (int32_t)id;
        key_before = key[id] == WHOLE ? before : key[id];
        if (!append(codes, &used, code, length[id]))
            Py_CLEAR(codes);
    }
    if (codes != NULL && PyByteArray_Resize(codes, (Py_ssize_t)used) < 0)
        Py_CLEAR(codes);
    return codes;
}

/* What `frames_dump` gives, as C arrays. */
typedef struct {
    const uint8_t *codes;
    const uint32_t *length;
    const int32_t *key, *references, *spare;
    size_t bytes, count, spare_count;
} Dump;

/* Whether the parts fit together, so that reading any plane stays within memory. */
static bool dump_is_sound(const Dump *dump, size_t pixels)
{
    size_t used = 0, unused = 0;
    for (size_t id = 0; id < dump->count; id++) {
        const uint32_t length = dump->length[id];
        const int32_t key = dump->key[id];
        unused += length == 0;
        if ((length != 0) != (dump->references[id] > 0) || length > dump->bytes - used)
            return false;
        if (length != 0 && key == WHOLE && length != pixels)
            return false;
        if (key != WHOLE &&
            (key < 0 || (size_t)key >= dump->count || dump->length[key] == 0 || dump->key[key] != WHOLE ||
             !code_is_sound(pixels, dump->codes + used, length)))
            return false;
        used += length;
    }
    for (size_t i = 0; i < dump->spare_count; i++)
        if (dump->spare[i] < 0 || (size_t)dump->spare[i] >= dump->count || dump->length[dump->spare[i]] != 0)
            return false;
    return used == dump->bytes && unused == dump->spare_count;
}

static bool take_over(Frames *frames, const Dump *dump)
{
    frames_clear(frames);
    if (!frames_reserve(frames, dump->count))
        return false;
    for (size_t id = 0; id < dump->count; id++)
        frames->code[id] = NULL, frames->length[id] = 0, frames->key[id] = WHOLE;
    frames->count = dump->count;
    const uint8_t *code = dump->codes;
    for (size_t id = 0; id < dump->count; code += dump->length[id++])
        if (dump->length[id] != 0 && !frames_keep(frames, (int32_t)id, code, dump->length[id], dump->key[id]))
            return false;
    memcpy(frames->references, dump->references, dump->count * sizeof *dump->references);
    memcpy(frames->spare, dump->spare, dump->spare_count * sizeof *dump->spare);
    frames->spare_count = dump->spare_count;
    for (size_t id = 0; id < dump->count && !frames->compress; id++) {
        if (frames->key[id] == WHOLE)
            continue;
        frames_read(frames, (int32_t)id, frames->near);
        free(frames->code[id]);
        if (!frames_keep(frames, (int32_t)id, frames->near, frames->pixels, WHOLE)) {
            frames->code[id] = NULL;
            return false;
        }
    }
    return true;
}

#endif

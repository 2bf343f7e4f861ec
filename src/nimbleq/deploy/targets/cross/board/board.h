/* What a program needs of the board that it runs on. */
#ifndef NQ_BOARD_H
#define NQ_BOARD_H

#include <stdint.h>

/* Fill `to` with the next bytes of the input; 0 when there are no more. */
int board_read(void *to, uint32_t bytes);

/* Append bytes to the output. */
void board_write(const void *from, uint32_t bytes);

/* Show one line to a person. */
void board_say(const char *line);

/* A clock that counts processor cycles and wraps; 0 where there is none. */
uint32_t board_cycles(void);

/* Bytes below the stack pointer that a measurement may paint over. */
extern const uint32_t board_stack_bytes;

#endif

/* Linux: standard input and output. */
#include "board.h"

#include <stdio.h>

const uint32_t board_stack_bytes = 65536;

int board_read(void *to, uint32_t bytes) { return fread(to, 1, bytes, stdin) == bytes; }

void board_write(const void *from, uint32_t bytes) { fwrite(from, 1, bytes, stdout); }

void board_say(const char *line) { puts(line); }

uint32_t board_cycles(void) { return 0; }

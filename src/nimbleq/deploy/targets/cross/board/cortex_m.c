/* A Cortex-M without an operating system: start-up, and files of the host by semihosting (ARM IHI 100863). */
#include "board.h"

enum { SYS_OPEN = 0x01, SYS_WRITE0 = 0x04, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT = 0x18 };

extern uint32_t board_data_from[], board_data[], board_data_end[], board_bss[], board_bss_end[], board_stack_top[];
int main(void);

const uint32_t board_stack_bytes = 65536;

static int32_t host(int32_t operation, const void *argument)
{
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static int32_t open_file(const char *name, uint32_t length, uint32_t mode)
{
    const uint32_t given[3] = {(uint32_t)(uintptr_t)name, mode, length};
    return host(SYS_OPEN, given);
}

int board_read(void *to, uint32_t bytes)
{
    static int32_t file = -1;
    if (file < 0) file = open_file("in.bin", 6, 1);
    const uint32_t given[3] = {(uint32_t)file, (uint32_t)(uintptr_t)to, bytes};
    return host(SYS_READ, given) == 0;
}

void board_write(const void *from, uint32_t bytes)
{
    static int32_t file = -1;
    if (file < 0) file = open_file("out.bin", 7, 5);
    const uint32_t given[3] = {(uint32_t)file, (uint32_t)(uintptr_t)from, bytes};
    host(SYS_WRITE, given);
}

void board_say(const char *line)
{
    host(SYS_WRITE0, line);
    host(SYS_WRITE0, "\n");
}

uint32_t board_cycles(void) { return 0; }

static void stop(int status) { host(SYS_EXIT, (const void *)(uintptr_t)(status == 0 ? 0x20026 : 0x20023)); }

static void fault(void)
{
    stop(1);
    for (;;) {}
}

void board_reset(void);
void board_reset(void)
{
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20; /* CPACR: the floating-point unit on */
    __asm__ volatile("dsb\n\tisb");
    for (uint32_t *to = board_data, *from = board_data_from; to < board_data_end;) *to++ = *from++;
    for (uint32_t *to = board_bss; to < board_bss_end;) *to++ = 0;
    stop(main());
    for (;;) {}
}

__attribute__((section(".vectors"), used)) static const uintptr_t vectors[16] = {
    (uintptr_t)board_stack_top, (uintptr_t)board_reset, (uintptr_t)fault, (uintptr_t)fault,
    (uintptr_t)fault, (uintptr_t)fault, (uintptr_t)fault,
};

/* An ATmega without an operating system: the input lies in flash, the output leaves as hexadecimal lines by UART 0,
   timer 1 counts cycles. */
#include "board.h"

#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/pgmspace.h>
#include <avr/sleep.h>
#include <util/delay_basic.h>

const uint32_t board_stack_bytes = 1024;

#ifdef BOARD_INPUT
static const unsigned char input[] PROGMEM = {
#include BOARD_INPUT
};
static uint32_t taken;

int board_read(void *to, uint32_t bytes)
{
    unsigned char *out = to;
    if (sizeof input - taken < bytes) return 0;
    while (bytes-- > 0) *out++ = pgm_read_byte_far(pgm_get_far_address(input) + taken++);
    return 1;
}
#else
int board_read(void *to, uint32_t bytes)
{
    (void)to;
    (void)bytes;
    return 0;
}
#endif

static void put(char c)
{
    UCSR0B = _BV(TXEN0);
    UCSR0A = _BV(U2X0);
    UDR0 = (unsigned char)c;
    _delay_loop_1(40); /* 120 cycles; a byte takes 80. simavr sleeps when the register with the flags is read. */
}

/* simavr cuts lines that are longer than its buffer. */
void board_write(const void *from, uint32_t bytes)
{
    const unsigned char *at = from;
    while (bytes > 0) {
        put('=');
        for (unsigned char left = 32; left > 0 && bytes > 0; --left, --bytes, ++at) {
            put("0123456789abcdef"[*at >> 4]);
            put("0123456789abcdef"[*at & 15]);
        }
        put('\n');
    }
}

void board_say(const char *line)
{
    while (*line) put(*line++);
    put('\n');
}

static volatile uint16_t overflows;
ISR(TIMER1_OVF_vect) { ++overflows; }

uint32_t board_cycles(void)
{
    TCCR1A = 0;
    TCCR1B = _BV(CS10);
    TIMSK1 = _BV(TOIE1);
    sei();
    cli();
    uint16_t low = TCNT1, high = overflows;
    if ((TIFR1 & _BV(TOV1)) && low < 0x8000) ++high;
    sei();
    return (uint32_t)high << 16 | low;
}

/* After main: a simulator stops where the processor sleeps for ever. */
__attribute__((naked, used, section(".fini8"))) void board_stop(void);
void board_stop(void)
{
    _delay_loop_2(1000); /* the last byte leaves */
    cli();
    sleep_enable();
    sleep_cpu();
}

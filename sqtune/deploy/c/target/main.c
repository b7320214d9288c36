/* Firmware that runs images through a network under an emulator and prints what came out:
   a line per image: timer ticks, bytes of stack, and the logits as the bits of floats in hex. */
#include "images.h" /* the network too, as run_network, and NUM_CLASSES */

#include <stddef.h>
#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define COPROCESSORS REGISTER(0xE000ED88u)
#define TIMER_CONTROL REGISTER(0x40000000u)
#define TIMER_VALUE REGISTER(0x40000004u)
#define TIMER_RELOAD REGISTER(0x40000008u)

enum { WRITE_TEXT = 0x04, EXIT = 0x18, ENDED = 0x20026, STACK_LOOKED_AT = 32768 };

extern uint32_t stack_top[];
void reset(void);

static int call_host(int what, const void *argument)
{
    register int r0 __asm__("r0") = what;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void print_hex(uint32_t value)
{
    char text[10];
    int digit;
    for (digit = 0; digit < 8; digit++) {
        text[digit] = "0123456789abcdef"[(value >> (28 - 4 * digit)) & 15];
    }
    text[8] = ' ';
    text[9] = 0;
    call_host(WRITE_TEXT, text);
}

static uint32_t float_bits(float value)
{
    union {
        float value;
        uint32_t bits;
    } both;
    both.value = value;
    return both.bits;
}

/* Below the caller's stack, which ends here or higher. */
static uint32_t *stack_here(void)
{
    uint32_t *here;
    __asm__ volatile("mov %0, sp" : "=r"(here));
    return here;
}

static void run_all(void)
{
    size_t image, i;
    for (image = 0; image < NUM_IMAGES; image++) {
        float logits[NUM_CLASSES];
        volatile uint32_t *here = stack_here(), *lowest = here - STACK_LOOKED_AT / 4, *word;
        uint32_t before, after;
        for (word = lowest; word < here; word++) {
            *word = 0xA5A5A5A5u;
        }
        before = TIMER_VALUE;
        run_network(images[image], logits);
        after = TIMER_VALUE;
        for (word = lowest; word < here && *word == 0xA5A5A5A5u; word++) {
        }
        print_hex(before - after);
        print_hex((uint32_t)(here - word) * 4);
        for (i = 0; i < NUM_CLASSES; i++) {
            print_hex(float_bits(logits[i]));
        }
        call_host(WRITE_TEXT, "\n");
    }
}

void reset(void)
{
    COPROCESSORS |= 15u << 20; /* floating point on, where there is any */
    __asm__ volatile("dsb\n isb" ::: "memory");
    TIMER_RELOAD = 0xFFFFFFFFu;
    TIMER_VALUE = 0xFFFFFFFFu;
    TIMER_CONTROL = 1;
    run_all();
    call_host(EXIT, (const void *)ENDED);
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {stack_top, reset};

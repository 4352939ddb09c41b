/* SPDX-License-Identifier: MIT */
/* The state that everything shares: random numbers, trace, the report of a failure. */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"

struct sim sim;

/* splitmix64: any seed is as good as another. */
static uint64_t next(void)
{
    uint64_t z = sim.random += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sim_random(uint64_t below)
{
    return next() % below;
}

bool sim_chance(unsigned of_ten_thousand)
{
    return of_ten_thousand > 0 && sim_random(10000) < of_ten_thousand;
}

uint64_t sim_between(uint64_t low, uint64_t high)
{
    return low + sim_random(high - low + 1);
}

void sim_bytes(uint8_t *out, size_t len)
{
    uint64_t v = next() | 1;

    for (size_t i = 0; i < len; i += 8) {
        v = v * 6364136223846793005u + 1442695040888963407u;
        memcpy(out + i, &v, len - i < 8 ? len - i : 8);
    }
}

void sim_trace(const void *bytes, size_t len)
{
    sim.trace = hash64_seed(bytes, len, sim.trace);
}

void sim_trace_u64(uint64_t v)
{
    sim_trace(&v, sizeof(v));
}

void sim_say(const char *format, ...)
{
    va_list args;

    if (!sim.verbose)
        return;
    printf("%9.3f ", (double)sim.mono_us / 1e6);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

void sim_fail(const char *format, ...)
{
    va_list args;

    fflush(stdout);
    fprintf(stderr, "# seed %" PRIu64 " command %" PRIu64 " at %.3f s: ", sim.seed, sim.ops_done,
            (double)sim.mono_us / 1e6);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    fflush(stderr);
    _Exit(1);
}

/* In place of base/assert.c's: a broken assertion names its seed. node.c takes the panics it asked
 * for. */
bool node_takes_panic(void);
void node_panic(void) __attribute__((noreturn));
void assert_fail_(const char *file, int line, const char *format, ...);

void assert_fail_(const char *file, int line, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (node_takes_panic()) {
        sim_say("panic %s", text);
        node_panic();
    }
    fprintf(stderr, "# panic at %s:%d: %s\n", file, line, text);
    fprintf(stderr, "# reproduce: sim --seed %" PRIu64 "\n", sim.seed);
    abort();
}

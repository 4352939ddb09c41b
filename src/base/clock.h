/* SPDX-License-Identifier: MIT */
/* clock: the time that stamps entries and decides what has expired.
 *
 * Purpose   a wall clock in ms that advances with CLOCK_MONOTONIC and follows the system's wall
 *           clock slowly, so that a jump of the system clock expires nothing early and keeps
 *           nothing alive for ever
 * Threads   loop only
 * Rules     a difference up to CLOCK_STEP_MS is slewed by at most CLOCK_SLEW_PPM; a larger one
 *           counts only after it held for CLOCK_HOLD_MS, and is logged: forward it is jumped,
 *           back it is slewed, so the clock never goes back and a TTL grows by 5 % at most
 * Units     wall ms since 1970; monotonic µs
 * Source    DESIGN §6; slewing 5 % makes up a 60 s difference in 20 min
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

#define CLOCK_STEP_MS 60000
#define CLOCK_HOLD_MS 600000
#define CLOCK_SLEW_PPM 50000

/* Where time comes from; tests put their own in. */
struct clock_source {
    uint64_t (*wall_ms)(void *ctx);
    uint64_t (*mono_us)(void *ctx);
    void *ctx;
};

struct clock {
    struct clock_source source;
    uint64_t now_ms;        /* what clock_now_ms() answers */
    uint64_t last_mono_us;  /* at the last clock_update() */
    uint64_t carry_us;      /* part of a ms not yet in now_ms */
    uint64_t step_since_us; /* a large difference was first seen then; 0 = none */
    int64_t step_ms;        /* and was this big */
    uint64_t steps;         /* steps accepted, for INFO */
};

struct clock_source clock_system(void);

/* start_ms: the clock of the last checkpoint (time never runs back over a restart), or 0. */
void clock_init(struct clock *c, struct clock_source source, uint64_t start_ms);

/* Stamps of the log are times that were: a replay may hold later ones than the checkpoint's. */
void clock_raise(struct clock *c, uint64_t stamp_ms);

/* Once per loop wake-up: reads the source. Returns now_ms, which lags half a ms at most. */
uint64_t clock_update(struct clock *c);

static inline uint64_t clock_now_ms(const struct clock *c)
{
    return c->now_ms;
}

static inline uint64_t clock_mono_us(const struct clock *c)
{
    return c->source.mono_us(c->source.ctx);
}

#endif

/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include "base/logger.h"

#define UPDATE_MIN_US 500

static uint64_t system_wall_ms(void *ctx)
{
    struct timespec t;

    (void)ctx;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t system_mono_us(void *ctx)
{
    struct timespec t;

    (void)ctx;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

struct clock_source clock_system(void)
{
    return (struct clock_source){system_wall_ms, system_mono_us, NULL};
}

void clock_init(struct clock *c, struct clock_source source, uint64_t start_ms)
{
    uint64_t wall = source.wall_ms(source.ctx);

    *c = (struct clock){.source = source};
    c->last_mono_us = source.mono_us(source.ctx);
    c->now_ms = wall > start_ms ? wall : start_ms;
    if (start_ms > wall + CLOCK_STEP_MS)
        LOG_WARNING("clock the system clock is behind the stored one by_ms=%" PRIu64
                    " action=\"check the system time\"",
                    start_ms - wall);
}

void clock_raise(struct clock *c, uint64_t stamp_ms)
{
    if (c->now_ms < stamp_ms)
        c->now_ms = stamp_ms;
}

/* A large difference must hold before it is believed. */
static bool step_held(struct clock *c, int64_t diff_ms, uint64_t mono_us)
{
    bool held;

    /* A further jump starts the wait again; drift of less than a step does not. */
    if (c->step_since_us == 0 || llabs(diff_ms - c->step_ms) > CLOCK_STEP_MS) {
        c->step_since_us = mono_us;
        c->step_ms = diff_ms;
        LOG_WARNING("clock jump seen diff_ms=%" PRId64 " counts_after_ms=%d", diff_ms,
                    CLOCK_HOLD_MS);
        return false;
    }
    held = mono_us - c->step_since_us >= (uint64_t)CLOCK_HOLD_MS * 1000;
    if (held)
        c->step_ms = diff_ms; /* slewing changes the difference; it stays the same step */
    return held;
}

/* µs to add to or take from the passed time, so that now_ms nears the wall clock. */
static int64_t slew_us(int64_t diff_ms, uint64_t passed_us)
{
    int64_t room_us = (int64_t)(passed_us * CLOCK_SLEW_PPM / 1000000);
    int64_t want_us = diff_ms * 1000;

    if (want_us > room_us)
        return room_us;
    return want_us < -room_us ? -room_us : want_us;
}

uint64_t clock_update(struct clock *c)
{
    uint64_t mono_us = c->source.mono_us(c->source.ctx);
    uint64_t passed_us = mono_us - c->last_mono_us;
    uint64_t wall_ms;
    int64_t diff_ms;
    bool big;

    /* Of shorter times the share that may be slewed would be rounded away. */
    if (passed_us < UPDATE_MIN_US)
        return c->now_ms;
    wall_ms = c->source.wall_ms(c->source.ctx);
    c->last_mono_us = mono_us;
    c->carry_us += passed_us;
    diff_ms = (int64_t)(wall_ms - (c->now_ms + c->carry_us / 1000));
    big = llabs(diff_ms) > CLOCK_STEP_MS;

    if (big && diff_ms > 0 && step_held(c, diff_ms, mono_us)) {
        LOG_WARNING("clock step taken over diff_ms=%" PRId64, diff_ms);
        c->steps++;
        c->step_since_us = 0;
        c->carry_us = 0;
        c->now_ms = wall_ms;
        return c->now_ms;
    }
    if (!big)
        c->step_since_us = 0;
    /* A step back is never jumped: deadlines would move away. It is slewed like drift. */
    if (!big || (diff_ms < 0 && step_held(c, diff_ms, mono_us)))
        c->carry_us = (uint64_t)((int64_t)c->carry_us + slew_us(diff_ms, passed_us));
    c->now_ms += c->carry_us / 1000;
    c->carry_us %= 1000;
    return c->now_ms;
}

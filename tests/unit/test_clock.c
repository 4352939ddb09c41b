/* SPDX-License-Identifier: MIT */
#include "base/clock.h"
#include "test.h"

#include "base/logger.h"

enum { START_MS = 1000000000, MINUTE_MS = 60000 };

static struct {
    uint64_t wall_us, mono_us;
} fake;

static uint64_t fake_wall(void *ctx)
{
    (void)ctx;
    return fake.wall_us / 1000;
}

static uint64_t fake_mono(void *ctx)
{
    (void)ctx;
    return fake.mono_us;
}

static struct clock start(uint64_t start_ms)
{
    struct clock c;

    logger_set_level(LOGGER_WARNING + 1); /* jumps are logged; here they are many */
    fake.wall_us = (uint64_t)START_MS * 1000;
    fake.mono_us = 5000000;
    clock_init(&c, (struct clock_source){fake_wall, fake_mono, NULL}, start_ms);
    return c;
}

/* Both clocks go on for ms, an update every step_us; the clock must never go back. */
static void pass(struct clock *c, uint64_t ms, uint64_t step_us)
{
    for (uint64_t t = 0; t < ms * 1000; t += step_us) {
        uint64_t before = clock_now_ms(c);

        fake.wall_us += step_us;
        fake.mono_us += step_us;
        CHECK_GE_U64(clock_update(c), before);
    }
}

static int64_t behind_wall(const struct clock *c)
{
    return (int64_t)(fake.wall_us / 1000 - clock_now_ms(c));
}

TEST(starts_at_the_wall_clock)
{
    struct clock c = start(0);

    CHECK_EQ_U64(clock_now_ms(&c), START_MS);
    CHECK_EQ_U64(clock_mono_us(&c), 5000000);
    pass(&c, 1234, 1000);
    CHECK_EQ_U64(clock_now_ms(&c), START_MS + 1234);
}

TEST(parts_of_a_ms_are_not_lost)
{
    struct clock c = start(0);

    pass(&c, 10000, 700);
    CHECK_LE_INT(behind_wall(&c), 2);
    CHECK_GE_INT(behind_wall(&c), -2);
    pass(&c, 1000, 30); /* a busy loop: updates far more often than the ms changes */
    CHECK_LE_INT(behind_wall(&c), 2);
    CHECK_GE_INT(behind_wall(&c), -2);
}

TEST(never_runs_back_over_a_restart)
{
    struct clock c = start(START_MS + 10000);

    CHECK_EQ_U64(clock_now_ms(&c), START_MS + 10000);
    pass(&c, 1000, 1000);
    /* The difference is slewed away at 5 %. */
    CHECK_GE_U64(clock_now_ms(&c), START_MS + 10000 + 949);
    CHECK_LE_U64(clock_now_ms(&c), START_MS + 10000 + 951);
    pass(&c, 10000 * 20, 1000);
    CHECK_LE_INT(behind_wall(&c), 1);
    CHECK_GE_INT(behind_wall(&c), -1);
}

TEST(an_old_stored_clock_is_ignored)
{
    struct clock c = start(START_MS - 500000);

    CHECK_EQ_U64(clock_now_ms(&c), START_MS);
}

TEST(a_later_stamp_raises_it)
{
    struct clock c = start(0);

    clock_raise(&c, START_MS - 1);
    CHECK_EQ_U64(clock_now_ms(&c), START_MS);
    clock_raise(&c, START_MS + 5000);
    CHECK_EQ_U64(clock_now_ms(&c), START_MS + 5000);
    pass(&c, 1000, 1000);
    CHECK_GE_U64(clock_now_ms(&c), START_MS + 5000 + 949); /* and it goes on from there */
    CHECK_LE_U64(clock_now_ms(&c), START_MS + 5000 + 951);
}

TEST(a_small_difference_is_slewed_both_ways)
{
    for (int sign = -1; sign <= 1; sign += 2) {
        struct clock c = start(0);
        int64_t before;

        fake.wall_us += (uint64_t)(sign * 30000 * 1000);
        before = (int64_t)clock_now_ms(&c);
        pass(&c, 1000, 1000);
        CHECK_GE_INT((int64_t)clock_now_ms(&c) - before, 1000 + sign * 50 - 1);
        CHECK_LE_INT((int64_t)clock_now_ms(&c) - before, 1000 + sign * 50 + 1);
        pass(&c, 30000 * 20, 1000);
        CHECK_LE_INT(behind_wall(&c), 1);
        CHECK_GE_INT(behind_wall(&c), -1);
        CHECK_EQ_U64(c.steps, 0);
    }
}

/* 20 µs between updates: less than the share of 5 % that one µs is. */
TEST(a_busy_loop_slews_as_fast)
{
    struct clock c = start(0);

    fake.wall_us += 10000000;
    pass(&c, 2000, 10);
    CHECK_GE_INT(behind_wall(&c), 9898);
    CHECK_LE_INT(behind_wall(&c), 9902);
}

TEST(a_jump_forward_counts_after_it_held)
{
    struct clock c = start(0);
    uint64_t before;

    pass(&c, 1000, 1000);
    fake.wall_us += (uint64_t)3600 * 1000000;
    before = clock_now_ms(&c);
    pass(&c, CLOCK_HOLD_MS, 1000);
    CHECK_EQ_U64(clock_now_ms(&c), before + CLOCK_HOLD_MS); /* nothing expired early */
    pass(&c, 2, 1000);
    CHECK_EQ_INT(behind_wall(&c), 0);
    CHECK_EQ_U64(c.steps, 1);
    pass(&c, 1000, 1000);
    CHECK_EQ_INT(behind_wall(&c), 0);
}

TEST(a_jump_that_is_taken_back_never_counts)
{
    struct clock c = start(0);

    fake.wall_us += (uint64_t)3600 * 1000000;
    pass(&c, CLOCK_HOLD_MS - 1000, 1000);
    fake.wall_us -= (uint64_t)3600 * 1000000;
    pass(&c, MINUTE_MS, 1000);
    CHECK_EQ_INT(behind_wall(&c), 0);
    /* The same jump again has to wait its whole time. */
    fake.wall_us += (uint64_t)3600 * 1000000;
    pass(&c, CLOCK_HOLD_MS - 1000, 1000);
    CHECK_EQ_INT(behind_wall(&c), 3600 * 1000);
    CHECK_EQ_U64(c.steps, 0);
}

TEST(a_second_jump_starts_the_wait_again)
{
    struct clock c = start(0);

    fake.wall_us += (uint64_t)3600 * 1000000;
    pass(&c, CLOCK_HOLD_MS - 1000, 1000);
    fake.wall_us += (uint64_t)3600 * 1000000;
    pass(&c, CLOCK_HOLD_MS - 1000, 1000);
    CHECK_EQ_U64(c.steps, 0);
    pass(&c, 2000, 1000);
    CHECK_EQ_U64(c.steps, 1);
    CHECK_EQ_INT(behind_wall(&c), 0);
}

TEST(a_jump_back_is_slewed_after_it_held)
{
    struct clock c = start(0);
    uint64_t before;

    pass(&c, 1000, 1000);
    fake.wall_us -= (uint64_t)3600 * 1000000;
    before = clock_now_ms(&c);
    pass(&c, CLOCK_HOLD_MS, 1000);
    CHECK_EQ_U64(clock_now_ms(&c), before + CLOCK_HOLD_MS);
    pass(&c, 100 * 1000, 1000);
    CHECK_GE_U64(clock_now_ms(&c), before + CLOCK_HOLD_MS + 94999);
    CHECK_LE_U64(clock_now_ms(&c), before + CLOCK_HOLD_MS + 95001);
    pass(&c, (uint64_t)3600 * 1000 * 20, 100000);
    CHECK_GE_INT(behind_wall(&c), -1);
    CHECK_LE_INT(behind_wall(&c), 1);
    CHECK_EQ_U64(c.steps, 0);
}

/* A loop that slept through everything, or a machine that was suspended. */
TEST(a_long_time_between_updates)
{
    struct clock c = start(0);

    fake.wall_us += (uint64_t)86400 * 1000000;
    fake.mono_us += (uint64_t)86400 * 1000000;
    CHECK_EQ_U64(clock_update(&c), START_MS + (uint64_t)86400 * 1000);
    CHECK_EQ_U64(c.steps, 0);
}

TEST(the_system_source_moves_on)
{
    struct clock_source s = clock_system();
    uint64_t mono = s.mono_us(s.ctx);
    struct clock c;

    CHECK_GT_U64(s.wall_ms(s.ctx), (uint64_t)1600000000 * 1000);
    while (s.mono_us(s.ctx) - mono < 2000)
        ;
    clock_init(&c, s, 0);
    CHECK_GT_U64(clock_now_ms(&c), (uint64_t)1600000000 * 1000);
    CHECK_GE_U64(clock_mono_us(&c), mono + 2000);
}

TEST_MAIN

/* SPDX-License-Identifier: MIT */
#include "store/presence.h"

#include "base/hash.h"
#include "test.h"

static uint64_t hash_of(uint64_t i)
{
    return hash64(&i, sizeof(i));
}

static struct record slab(uint64_t expire_ms, uint32_t volume, uint64_t offset)
{
    return (struct record){.kind = RECORD_SLAB,
                           .expire_ms = expire_ms,
                           .place = {volume, volume + 1, offset}};
}

static bool known(const struct presence *p, uint64_t hash)
{
    struct place place;
    uint64_t expire_ms;

    return presence_find(p, hash, &expire_ms, &place);
}

TEST(a_key_is_known_from_the_first_add_to_its_end)
{
    struct presence *p = presence_new();
    struct record r = slab(0, 7, 3 * PLACE_UNIT);
    struct place place;
    uint64_t expire_ms;

    CHECK(!known(p, 1));
    presence_ahead(p, 1);
    presence_change(p, 1, &r); /* nobody asked yet */
    CHECK(!known(p, 1));
    CHECK_EQ_U64(presence_bytes(p), 0);
    presence_add(p, 1, &r);
    CHECK(presence_find(p, 1, &expire_ms, &place));
    CHECK(place_eq(place, r.place));
    CHECK_EQ_U64(expire_ms, 0);
    CHECK(!known(p, 2));

    r = slab(99, 8, (uint64_t)UINT32_MAX / PLACE_UNIT * PLACE_UNIT);
    presence_change(p, 1, &r);
    CHECK(presence_find(p, 1, &expire_ms, &place));
    CHECK(place_eq(place, r.place));
    CHECK_EQ_U64(expire_ms, 99);
    presence_change(p, 1, NULL);
    CHECK(!known(p, 1));
    presence_change(p, 1, NULL);
    presence_change(p, 1, &r); /* a new key is known at once, as somebody asks */
    CHECK(known(p, 1));
    presence_free(p);
}

TEST(an_inline_value_is_in_no_volume)
{
    struct presence *p = presence_new();
    struct record r = {.kind = RECORD_INLINE, .expire_ms = 5};
    struct place place;
    uint64_t expire_ms;

    presence_add(p, 3, &r);
    CHECK(presence_find(p, 3, &expire_ms, &place));
    CHECK_EQ_U64(place.volume, UINT32_MAX);
    CHECK_EQ_U64(expire_ms, 5);
    presence_free(p);
}

/* What does not fit a slot is not remembered cut short, and what was remembered goes. */
TEST(a_deadline_that_does_not_fit_is_not_kept)
{
    struct presence *p = presence_new();
    struct record r = slab(((uint64_t)1 << 44) - 1, 1, 0);

    presence_add(p, 4, &r);
    CHECK(known(p, 4));
    r.expire_ms++;
    presence_change(p, 4, &r);
    CHECK(!known(p, 4));
    presence_add(p, 5, &r);
    CHECK(!known(p, 5));
    presence_free(p);
}

TEST(hash_zero_is_never_known)
{
    struct presence *p = presence_new();
    struct record r = slab(0, 1, 0);

    presence_add(p, 1, &r);
    presence_add(p, 0, &r);
    CHECK(!known(p, 0));
    presence_change(p, 0, NULL);
    CHECK(!known(p, 0));
    presence_free(p);
}

TEST(clear_forgets_all_and_gives_the_memory_back)
{
    struct presence *p = presence_new();
    struct record r = slab(0, 1, 0);

    for (uint64_t i = 1; i < 1000; i++)
        presence_add(p, hash_of(i), &r);
    CHECK_GT_U64(presence_bytes(p), 0);
    presence_clear(p);
    CHECK_EQ_U64(presence_bytes(p), 0);
    for (uint64_t i = 1; i < 1000; i++)
        CHECK(!known(p, hash_of(i)));
    presence_free(p);
}

/* Asked for again and again, 19 of 20 keys are known up to three quarters of the slots; with more
 * keys than slots it stays within its bound. */
TEST(capacity_and_bound)
{
    struct presence *p = presence_new();
    const uint64_t fits = PRESENCE_MAX / 4 * 3 - 1000, most = (uint64_t)PRESENCE_MAX * 3 / 2;
    struct record r = slab(0, 1, 0);
    uint64_t missing = 0;

    for (int round = 0; round < 2; round++)
        for (uint64_t i = 1; i <= fits; i++)
            presence_add(p, hash_of(i), &r);
    for (uint64_t i = 1; i <= fits; i++)
        missing += !known(p, hash_of(i));
    CHECK_LE_U64(missing, fits / 20);
    for (uint64_t i = 1; i <= most; i++)
        presence_add(p, hash_of(i), &r);
    CHECK_EQ_U64(presence_bytes(p), (uint64_t)PRESENCE_MAX * PRESENCE_SLOT);
    CHECK(known(p, hash_of(most)));
    presence_free(p);
}

/* It may forget, but what it knows is what was said last. Few distinct hashes share few windows. */
TEST(random_changes_never_leave_a_stale_answer)
{
    enum { KEYS = 3000, STEPS = 300000 };
    struct presence *p = presence_new();
    static struct record said[KEYS]; /* kind 0: gone */
    uint64_t rnd = 5;

    for (int s = 0; s < STEPS; s++) {
        unsigned i, what;
        uint64_t h, expire_ms;
        struct place place;

        rnd = rnd * 6364136223846793005u + 1442695040888963407u;
        i = (unsigned)(rnd >> 33) % KEYS;
        what = (unsigned)(rnd >> 20) % 8;
        h = (uint64_t)(i % 7) << 48 | (i * 3 + 1); /* windows overlap */
        if (what == 0) {
            said[i].kind = 0;
            presence_change(p, h, NULL);
        } else if (what < 4) {
            said[i] = slab(rnd >> 50, (uint32_t)(rnd >> 45) & 7, (rnd >> 30 & 1023) * PLACE_UNIT);
            presence_change(p, h, &said[i]);
        } else if (what == 4 && said[i].kind != 0) {
            presence_add(p, h, &said[i]);
        }
        if (presence_find(p, h, &expire_ms, &place)) {
            CHECK(said[i].kind != 0);
            CHECK_EQ_U64(expire_ms, said[i].expire_ms);
            CHECK(place_eq(place, said[i].place));
        }
    }
    presence_free(p);
}

TEST_MAIN

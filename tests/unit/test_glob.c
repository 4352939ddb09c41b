/* SPDX-License-Identifier: MIT */
/* Rows were tried on redis-server 7.0.15 (SET text, KEYS pattern). */
#include "base/glob.h"
#include "test.h"

struct row {
    const char *pattern, *text;
    bool match;
};

static void check_rows(const struct row *rows, size_t n, bool ignore_case)
{
    for (size_t i = 0; i < n; i++) {
        const struct row *r = &rows[i];

        if (glob_match(slice_str(r->pattern), slice_str(r->text), ignore_case) != r->match) {
            fprintf(stderr, "# pattern %s text %s want %d\n", r->pattern, r->text, r->match);
            CHECK(false);
        }
    }
}

#define ROWS(rows, ignore_case) check_rows(rows, sizeof(rows) / sizeof(rows[0]), ignore_case)

TEST(plain_and_wildcards)
{
    static const struct row rows[] = {
        {"", "", true},           {"", "a", false},
        {"a", "", false},         {"a", "a", true},
        {"a", "A", false},        {"ab", "a", false},
        {"a", "ab", false},       {"?", "a", true},
        {"?", "", false},         {"??", "a", false},
        {"*", "anything", true},  {"*", "", true},
        {"**", "ab", true},       {"a*", "a", true},
        {"a*", "ba", false},      {"*a", "ba", true},
        {"*a", "ab", false},      {"a*b", "ab", true},
        {"a*b", "acccb", true},   {"a*b", "acccbc", false},
        {"*a*b*", "xaxbx", true}, {"*a*b*", "xbxax", false},
        {"a*?b", "ab", false},    {"a*?b", "axb", true},
        {"*ab", "aab", true},     {"*aab", "aaaab", true},
        {"h?llo", "hallo", true},
    };

    ROWS(rows, false);
}

TEST(sets)
{
    static const struct row rows[] = {
        {"[abc]", "b", true},        {"[abc]", "d", false},
        {"[^abc]", "d", true},       {"[^abc]", "a", false},
        {"[a-c]", "b", true},        {"[c-a]", "b", true},
        {"[a-c]", "d", false},       {"[^a-c]", "b", false},
        {"h[ae]llo", "hello", true}, {"h[ae]llo", "hillo", false},
        {"[]", "a", false},          {"[]a]", "a", false},
        {"[", "a", false},           {"[", "[", false},
        {"[^", "a", true},           {"[a", "a", true},
        {"[a", "b", false},          {"[a-]", "]", true},
        {"[a-]", "^", true},         {"[a-]", "-", false},
        {"[-a]", "-", true},         {"[\\]]", "]", true},
        {"[\\]]", "a", false},       {"[\\\\]", "\\", true},
        {"[\\a-z]", "m", false},     {"[\\a-z]", "-", true},
        {"[\\a-z]", "z", true},      {"[\\]-m", "a", false},
        {"[\\", "\\", true},         {"*[0-9]", "key7", true},
        {"*[0-9]x", "key7y", false}, {"[a-z]*[0-9]", "k-1", true},
    };

    ROWS(rows, false);
}

TEST(escapes)
{
    static const struct row rows[] = {
        {"\\*", "*", true},    {"\\*", "a", false},   {"\\?", "a", false}, {"\\\\", "\\", true},
        {"\\a", "a", true},    {"a\\", "a\\", true},  {"\\", "\\", true},  {"\\[a]", "[a]", true},
        {"*\\*", "ab*", true}, {"*\\*", "ab", false},
    };

    ROWS(rows, false);
}

TEST(any_case)
{
    static const struct row rows[] = {
        {"MaxMemory", "maxmemory", true},
        {"max*", "MAXMEMORY", true},
        {"[A-C]x", "bX", true},
        {"[^a]", "A", false},
        {"\\A", "a", true},
        {"ab", "ac", false},
    };

    ROWS(rows, true);
}

TEST(any_bytes)
{
    CHECK(glob_match(slice_of("a\0?", 3), slice_of("a\0\xff", 3), false));
    CHECK(!glob_match(slice_of("a\0b", 3), slice_of("a\0c", 3), false));
    CHECK(glob_match(slice_of("[\x80-\xff]", 5), slice_of("\xc0", 1), false));
    CHECK(!glob_match(slice_of("[\x80-\xff]", 5), slice_of("\x7f", 1), false));
    CHECK(glob_match(slice_of(NULL, 0), slice_of(NULL, 0), false));
}

/* Bytes behind the slices are not read (seen by ASan). */
TEST(patterns_end_where_they_end)
{
    static const char *const patterns[] = {"[", "[^", "[a", "[a-", "[\\", "\\", "*", "*[", "?["};

    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        size_t len = strlen(patterns[i]);
        char *p = malloc(len), *t = malloc(1);

        memcpy(p, patterns[i], len);
        *t = 'b';
        glob_match(slice_of(p, len), slice_of(t, 1), false);
        free(p);
        free(t);
    }
}

/* The classic that takes a recursive matcher for ever: here pattern times text, 2 M steps. */
TEST(many_stars_end_soon)
{
    static char pattern[GLOB_PATTERN_MAX], text[4096];

    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = i % 2 == 0 ? '*' : 'a';
    pattern[sizeof(pattern) - 1] = 'b';
    memset(text, 'a', sizeof(text));
    CHECK(!glob_match(slice_of(pattern, sizeof(pattern)), slice_of(text, sizeof(text)), false));
}

TEST_MAIN

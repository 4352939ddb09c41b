/* SPDX-License-Identifier: MIT */
/* fuzz_text: patterns, numbers and words against slow models of them.
 *
 * The first byte says which. Patterns: a recursive matcher that follows Redis's rules one by one.
 * Integers: what the C library prints back as the same text. Floating point: what is printed is
 * read back and printed the same. Words: each, written in quotes, is read back as it was.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>

#include "base/glob.h"
#include "base/number.h"
#include "base/words.h"
#include "fuzz.h"

/* ---- patterns ----------------------------------------------------------------------------- */

enum { PATTERN_MAX = 24, TEXT_MAX = 24, STARS_MAX = 5 };

static bool same(int a, int b, bool any_case)
{
    return any_case ? tolower(a) == tolower(b) : a == b;
}

/* One element at p against the byte c; *next: behind the element. A set ends at its first ] that
 * is not escaped, or with the pattern. */
static bool model_set(const uint8_t *p, const uint8_t *end, int c, bool any_case,
                      const uint8_t **next)
{
    bool negate = p < end && *p == '^', found = false;

    for (p += negate; p < end && *p != ']'; p++) {
        if (*p == '\\' && end - p >= 2) {
            p++;
            found |= same(*p, c, any_case);
        } else if (end - p >= 3 && p[1] == '-') {
            int lo = p[0] < p[2] ? p[0] : p[2], hi = p[0] < p[2] ? p[2] : p[0];

            if (any_case) {
                lo = tolower(lo);
                hi = tolower(hi);
            }
            found |= (any_case ? tolower(c) : c) >= lo && (any_case ? tolower(c) : c) <= hi;
            p += 2;
        } else {
            found |= same(*p, c, any_case);
        }
    }
    *next = p < end ? p + 1 : p;
    return found != negate;
}

static bool model(const uint8_t *p, const uint8_t *p_end, const uint8_t *t, const uint8_t *t_end,
                  bool any_case)
{
    const uint8_t *next = p + 1;
    bool fits;

    if (p == p_end)
        return t == t_end;
    if (*p == '*') {
        for (const uint8_t *from = t; from <= t_end; from++)
            if (model(p + 1, p_end, from, t_end, any_case))
                return true;
        return false;
    }
    if (t == t_end)
        return false;
    if (*p == '?') {
        fits = true;
    } else if (*p == '[') {
        fits = model_set(p + 1, p_end, *t, any_case, &next);
    } else {
        if (*p == '\\' && p_end - p >= 2)
            next = ++p + 1;
        fits = same(*p, *t, any_case);
    }
    return fits && model(next, p_end, t + 1, t_end, any_case);
}

static void pattern(struct slice rest)
{
    bool any_case = fuzz_byte(&rest) & 1;
    struct slice pat = fuzz_take(&rest, fuzz_byte(&rest) % PATTERN_MAX);
    size_t stars = 0, len = rest.len < TEXT_MAX ? rest.len : TEXT_MAX;
    uint8_t *p = fuzz_copy(pat.ptr, pat.len), *t = fuzz_copy(rest.ptr, len);
    bool match = glob_match(slice_of(p, pat.len), slice_of(t, len), any_case);

    for (size_t i = 0; i < pat.len; i++)
        stars += p[i] == '*';
    if (stars <= STARS_MAX)
        ASSERT(match == model(p, p + pat.len, t, t + len, any_case));
    free(p);
    free(t);
}

/* ---- numbers ------------------------------------------------------------------------------ */

/* The text of v with this format is the text s. */
#define PRINTS_AS(s, format, v)                                                                    \
    (snprintf(text, sizeof(text), format, v) == (int)(s).len && memcmp(text, (s).ptr, (s).len) == 0)

static void integer(struct slice s)
{
    char text[64] = {0};
    int64_t i = 7;
    bool is_i = number_parse_i64(s, &i);

    ASSERT(is_i ? PRINTS_AS(s, "%" PRId64, i) : i == 7);
    if (s.len == 0 || s.len >= sizeof(text))
        return;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    errno = 0;
    i = strtoll(text, NULL, 10);
    ASSERT(is_i == (errno == 0 && PRINTS_AS(s, "%" PRId64, i)));
}

static void floating(struct slice s)
{
    static char text[NUMBER_TEXT_MAX], again[NUMBER_TEXT_MAX];
    long double v = 7, w;
    size_t len;

    if (!number_parse_ld(s, &v)) {
        ASSERT(v == 7);
        return;
    }
    ASSERT(!isnan(v));
    len = number_format_ld(v, text, sizeof(text));
    ASSERT(len == strlen(text) && number_parse_ld(slice_of(text, len), &w));
    ASSERT(fabsl(w - v) <= 1e-17L || fabsl(w - v) <= fabsl(v) * 1e-18L || isinf(v));
    ASSERT(number_format_ld(w, again, sizeof(again)) == len && memcmp(text, again, len) == 0);
}

/* ---- words -------------------------------------------------------------------------------- */

static size_t quote(const uint8_t *word, size_t len, char *out)
{
    size_t n = 0;

    out[n++] = '"';
    for (size_t i = 0; i < len; i++)
        n += (size_t)sprintf(out + n, "\\x%02x", word[i]);
    out[n++] = '"';
    return n;
}

static void words(struct slice s)
{
    uint8_t *copy = fuzz_copy(s.ptr, s.len);
    struct slice rest = slice_of(copy, s.len);
    enum words_status status;

    do {
        uint8_t *out = malloc(rest.len + 1), *back;
        size_t before = rest.len, len, back_len;
        struct slice quoted;
        char *text;

        ASSERT(out != NULL);
        status = words_next(&rest, out, &len);
        ASSERT(len <= before && rest.len <= before && rest.ptr + rest.len == copy + s.len);
        ASSERT(status != WORDS_ONE || rest.len < before);
        text = malloc(4 * len + 3);
        back = malloc(4 * len + 3);
        ASSERT(text != NULL && back != NULL);
        quoted = slice_of(text, quote(out, len, text));
        ASSERT(words_next(&quoted, back, &back_len) == WORDS_ONE && quoted.len == 0);
        ASSERT(slice_eq(slice_of(back, back_len), slice_of(out, len)));
        free(out);
        free(text);
        free(back);
    } while (status == WORDS_ONE);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const readers[])(struct slice) = {pattern, integer, floating, words};
    struct slice rest = slice_of(data, size);

    readers[fuzz_byte(&rest) % 4](rest);
    return 0;
}

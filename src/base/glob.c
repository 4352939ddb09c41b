/* SPDX-License-Identifier: MIT */
/* One star at a time: on a mismatch the match resumes one byte further behind the last star only.
 * An earlier star never needs another try, because the later one can absorb whatever it would.
 */
#include "base/glob.h"

#include <ctype.h>

static uint8_t fold(uint8_t c, bool ignore_case)
{
    return ignore_case ? (uint8_t)tolower(c) : c;
}

/* The ends of a range may stand in any order. */
static bool in_range(uint8_t c, uint8_t lo, uint8_t hi, bool ignore_case)
{
    uint8_t a = fold(lo < hi ? lo : hi, ignore_case);
    uint8_t b = fold(lo < hi ? hi : lo, ignore_case);

    return c >= a && c <= b;
}

/* [set] at pattern[*p], which is behind the bracket; *p ends behind the closing one. */
static bool match_set(struct slice pat, size_t *p, uint8_t c, bool ignore_case)
{
    bool negate = *p < pat.len && pat.ptr[*p] == '^';
    bool found = false;

    if (negate)
        ++*p;
    while (*p < pat.len && pat.ptr[*p] != ']') {
        uint8_t lo, hi;
        bool escaped = pat.ptr[*p] == '\\' && *p + 1 < pat.len;

        *p += escaped;
        lo = hi = pat.ptr[*p];
        if (!escaped && *p + 2 < pat.len && pat.ptr[*p + 1] == '-') {
            hi = pat.ptr[*p + 2];
            *p += 2;
        }
        found |= in_range(c, lo, hi, ignore_case);
        ++*p;
    }
    if (*p < pat.len)
        ++*p;
    return found != negate;
}

/* One pattern element other than a star against one byte. */
static bool match_one(struct slice pat, size_t *p, uint8_t c, bool ignore_case)
{
    c = fold(c, ignore_case);
    switch (pat.ptr[*p]) {
    case '?':
        ++*p;
        return true;
    case '[':
        ++*p;
        return match_set(pat, p, c, ignore_case);
    case '\\':
        if (*p + 1 < pat.len)
            ++*p;
        break;
    default:
        break;
    }
    return fold(pat.ptr[(*p)++], ignore_case) == c;
}

bool glob_match(struct slice pat, struct slice text, bool ignore_case)
{
    size_t p = 0, t = 0;
    size_t star = SIZE_MAX, star_text = 0;

    while (t < text.len) {
        if (p < pat.len && pat.ptr[p] == '*') {
            star = ++p;
            star_text = t;
            continue;
        }
        if (p < pat.len && match_one(pat, &p, text.ptr[t], ignore_case)) {
            t++;
            continue;
        }
        if (star == SIZE_MAX)
            return false;
        p = star;
        t = ++star_text;
    }
    while (p < pat.len && pat.ptr[p] == '*')
        p++;
    return p == pat.len;
}

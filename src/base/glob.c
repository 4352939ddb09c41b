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

/* [set] at pattern[*p], which is behind the bracket; *p ends behind the closing one. */
static bool match_set(struct slice pat, size_t *p, uint8_t c, bool ignore_case)
{
    bool negate = *p < pat.len && pat.ptr[*p] == '^';
    bool found = false;

    if (negate)
        ++*p;
    while (*p < pat.len && pat.ptr[*p] != ']') {
        uint8_t lo, hi;

        if (pat.ptr[*p] == '\\' && *p + 1 < pat.len)
            ++*p;
        lo = hi = fold(pat.ptr[*p], ignore_case);
        if (*p + 2 < pat.len && pat.ptr[*p + 1] == '-') {
            hi = fold(pat.ptr[*p + 2], ignore_case);
            *p += 2;
        }
        if (lo > hi) {
            uint8_t t = lo;

            lo = hi;
            hi = t;
        }
        found |= c >= lo && c <= hi;
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

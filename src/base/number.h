/* SPDX-License-Identifier: MIT */
/* number: text ↔ numbers exactly as Redis converts them.
 *
 * Purpose   strict integers (no space, no plus, no leading zero) and the floating-point numbers of
 *           INCRBYFLOAT, both ways
 * Threads   any
 * Errors    false, output untouched
 */
#ifndef BASE_NUMBER_H
#define BASE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define NUMBER_TEXT_MAX 5120 /* longest text number_format_ld can make (%.17Lf of the largest) */

bool number_parse_i64(struct slice s, int64_t *out);

/* What strtold reads (hexadecimal, infinities) but no NaN, no space, no over- or underflow. */
bool number_parse_ld(struct slice s, long double *out);

/* %.17Lf with trailing zeros cut ("3", "0.1"), NUL behind it; size >= NUMBER_TEXT_MAX. Returns the
 * length. */
size_t number_format_ld(long double v, char *out, size_t size);

/* Case-insensitive comparison of an argument with a word in any case. */
bool number_is_word(struct slice s, const char *word);

#endif

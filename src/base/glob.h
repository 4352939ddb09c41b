/* SPDX-License-Identifier: MIT */
/* glob: Redis's pattern language: * ? [a-z] [^x] and backslash.
 *
 * Purpose   KEYS, SCAN MATCH, CONFIG GET
 * Threads   any
 * Limits    iterative, no recursion; O(pattern × text) steps at worst, so callers cap the pattern
 *           at GLOB_PATTERN_MAX (CVE-2022-36021, CVE-2024-31228: the recursive matcher)
 */
#ifndef BASE_GLOB_H
#define BASE_GLOB_H

#include "base/slice.h"

#define GLOB_PATTERN_MAX 1024

bool glob_match(struct slice pattern, struct slice text, bool ignore_case);

#endif

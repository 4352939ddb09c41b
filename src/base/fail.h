/* SPDX-License-Identifier: MIT */
/* fail: named points where a test makes the process die, fail or wait.
 *
 * Purpose   crash and error tests at exact places; absent from release builds (SLDMKV_FAIL)
 * Use       SLDMKV_FAILPOINTS="name=abort[@n],name=errno:28[@n][+],name=delay:50[@n]": the n-th
 *           time the point is reached (default 1); "+" = from then on. FAIL() returns 0 or the
 *           errno to pretend
 * Threads   any
 */
#ifndef BASE_FAIL_H
#define BASE_FAIL_H

#ifdef SLDMKV_FAIL
int fail_reached(const char *name);
#define FAIL(name) fail_reached(name)
#else
#define FAIL(name) 0
#endif

#endif

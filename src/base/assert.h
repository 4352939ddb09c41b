/* SPDX-License-Identifier: MIT */
/* assert: what stops the process, and how.
 *
 * Purpose   ASSERT  a programmer's error; always compiled in. Never for bytes from a client, a
 *                   disk, a peer or a conf file
 *           DASSERT the same, too expensive for release builds
 *           PANIC   own state cannot be trusted any more (for example a doubtful write of the
 *                   index): stop before a wrong answer; the log has everything
 * Threads   any
 */
#ifndef BASE_ASSERT_H
#define BASE_ASSERT_H

__attribute__((noreturn, format(printf, 3, 4))) void assert_fail_(const char *file, int line,
                                                                  const char *format, ...);

#define ASSERT(cond)                                                                               \
    do {                                                                                           \
        if (__builtin_expect(!(cond), 0))                                                          \
            assert_fail_(__FILE__, __LINE__, "assertion failed: %s", #cond);                       \
    } while (0)

#ifdef SLDMKV_DEBUG
#define DASSERT(cond) ASSERT(cond)
#else
#define DASSERT(cond) ((void)sizeof(cond))
#endif

#define PANIC(...) assert_fail_(__FILE__, __LINE__, __VA_ARGS__)

#endif

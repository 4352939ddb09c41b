/* SPDX-License-Identifier: MIT */
/* test: the smallest harness a unit test needs.
 *
 *   TEST(name) { CHECK_EQ_INT(parse("7"), 7); }
 *   TEST_MAIN
 *
 * Purpose   one program per module; prints TAP ("ok N - name"), exit status 1 when a test failed.
 *           `test_x name…` runs only the tests whose name contains one of the words
 * Threads   a failing CHECK leaves its test by longjmp, so it belongs to the main thread; in any
 *           other thread it prints the operands and aborts
 * Owner     what a failed test had allocated stays allocated; the process ends soon
 * Errors    every check prints file, line, expression and both operands
 * Limits    TEST_TIMEOUT_S for the program, TEST_TIMEOUT_SLOW_S under a sanitizer; then abort
 */
#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEST_TIMEOUT_S = 120, TEST_TIMEOUT_SLOW_S = 600, TEST_SHOWN_BYTES = 64 };

struct test_case {
    const char *name;
    void (*run)(void);
    struct test_case *next;
};

static struct {
    struct test_case *first, **tail;
    const char *current;
    pthread_t thread;
    jmp_buf leave;
} test_state;

/* Constructors run in source order, so tests run in the order they are written. */
static inline void test_register(struct test_case *t)
{
    if (test_state.tail == NULL)
        test_state.tail = &test_state.first;
    *test_state.tail = t;
    test_state.tail = &t->next;
}

_Noreturn static inline void test_fail(const char *file, int line)
{
    fprintf(stderr, "#   at %s:%d in %s\n", file, line, test_state.current);
    if (!pthread_equal(pthread_self(), test_state.thread))
        abort();
    longjmp(test_state.leave, 1);
}

static inline void test_show_bytes(const char *what, const void *p, size_t len)
{
    const unsigned char *b = p;
    fprintf(stderr, "#   %s: ", what);
    if (p == NULL) {
        fputs("NULL\n", stderr);
        return;
    }
    for (size_t i = 0; i < len && i < TEST_SHOWN_BYTES; i++)
        fprintf(stderr, b[i] >= ' ' && b[i] < 127 && b[i] != '\\' ? "%c" : "\\x%02x", b[i]);
    fprintf(stderr, "%s (%zu bytes)\n", len > TEST_SHOWN_BYTES ? "…" : "", len);
}

static inline void test_check_mem(const void *a, size_t a_len, const void *b, size_t b_len,
                                  const char *text, const char *file, int line)
{
    if (a_len == b_len && (a == NULL) == (b == NULL) && (!a_len || memcmp(a, b, a_len) == 0))
        return;
    size_t at = 0, both = a_len < b_len ? a_len : b_len;
    while (a && b && at < both && ((const char *)a)[at] == ((const char *)b)[at])
        at++;
    fprintf(stderr, "# CHECK failed: %s (first difference at byte %zu)\n", text, at);
    test_show_bytes("got ", a, a_len);
    test_show_bytes("want", b, b_len);
    test_fail(file, line);
}

/* The signal frame may not allocate or lock: write() only. */
static inline void test_on_timeout(int sig)
{
    static const char text[] = "# timed out in: ";
    const char *name = test_state.current ? test_state.current : "(no test)";
    (void)sig;
    if (write(2, text, sizeof text - 1) < 0 || write(2, name, strlen(name)) < 0 ||
        write(2, "\n", 1) < 0)
        _exit(3);
    abort();
}

static inline int test_wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strstr(name, argv[i]))
            return 1;
    return argc < 2;
}

static inline int test_main(int argc, char **argv)
{
    volatile int failed = 0, n = 0;
    int slow = getenv("TEST_SLOW") != NULL; /* set by tests/run_unit.sh under a sanitizer */
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGALRM, test_on_timeout);
    alarm(slow ? TEST_TIMEOUT_SLOW_S : TEST_TIMEOUT_S);
    test_state.thread = pthread_self();
    for (struct test_case *volatile t = test_state.first; t; t = t->next) {
        if (!test_wanted(t->name, argc, argv))
            continue;
        test_state.current = t->name;
        n++;
        if (setjmp(test_state.leave) == 0) {
            t->run();
            printf("ok %d - %s\n", n, t->name);
        } else {
            printf("not ok %d - %s\n", n, t->name);
            failed++;
        }
    }
    printf("1..%d\n", n);
    return failed || n == 0;
}

#define TEST(name_)                                                                                \
    static void test_run_##name_(void);                                                            \
    __attribute__((constructor)) static void test_add_##name_(void)                                \
    {                                                                                              \
        static struct test_case c = {#name_, test_run_##name_, NULL};                              \
        test_register(&c);                                                                         \
    }                                                                                              \
    static void test_run_##name_(void)

#define TEST_MAIN                                                                                  \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        return test_main(argc, argv);                                                              \
    }

#include "test_check.h"

#endif

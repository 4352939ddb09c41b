/* SPDX-License-Identifier: MIT */
/* logger: the server's log lines.
 *
 * Purpose   one line per event, key=value, Redis's levels; every line tells an operator what
 *           changed or what to do. Never secrets, never payload
 * Threads   any; one write(2) per line, so lines never mix
 * Owner     process-wide: one log per process (the only global state beside fail)
 * Limits    LOGGER_LINE_MAX bytes a line, cut with "…"; logger_allow() limits repeated lines
 * Errors    a log that cannot be written is ignored: serving goes on
 */
#ifndef BASE_LOGGER_H
#define BASE_LOGGER_H

#include <stdbool.h>
#include <stdint.h>

#define LOGGER_LINE_MAX 1024

enum logger_level { LOGGER_DEBUG, LOGGER_VERBOSE, LOGGER_NOTICE, LOGGER_WARNING };

/* path: NULL or "" = standard output. 0 or ERR_: the old target stays. */
int logger_open(const char *path);
int logger_reopen(void); /* after logrotate moved the file (SIGHUP) */
void logger_set_level(enum logger_level level);
bool logger_enabled(enum logger_level level);

__attribute__((format(printf, 2, 3))) void logger_write(enum logger_level level, const char *format,
                                                        ...);

/* True at most once per interval for one call site:
 * `static uint64_t last; if (logger_allow(&last, 1000))`. */
bool logger_allow(uint64_t *last_ms, uint64_t interval_ms);

#define LOG_DEBUG(...)                                                                             \
    do {                                                                                           \
        if (logger_enabled(LOGGER_DEBUG))                                                          \
            logger_write(LOGGER_DEBUG, __VA_ARGS__);                                               \
    } while (0)
#define LOG_VERBOSE(...) logger_write(LOGGER_VERBOSE, __VA_ARGS__)
#define LOG_NOTICE(...) logger_write(LOGGER_NOTICE, __VA_ARGS__)
#define LOG_WARNING(...) logger_write(LOGGER_WARNING, __VA_ARGS__)

#endif

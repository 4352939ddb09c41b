/* SPDX-License-Identifier: MIT */
#include "base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/logger.h"

void assert_fail_(const char *file, int line, const char *format, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    logger_write(LOGGER_WARNING, "panic at=%s:%d %s", file, line, text);
    abort();
}

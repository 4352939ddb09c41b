/* SPDX-License-Identifier: MIT */
/* tool: what the modes of sldmkv-check share.
 *
 * Purpose   one run over one stopped data directory: what was found, progress, key names
 * Threads   one
 * Owner     main holds the lock of the directory while a mode runs
 * Units     bytes; keys are printed escaped
 * Errors    a mode returns the exit status: EXIT_SOUND, EXIT_DAMAGED, EXIT_CANNOT, said on stderr
 */
#ifndef SLDMKV_CHECK_TOOL_H
#define SLDMKV_CHECK_TOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "store/datadir.h"
#include "store/record.h"

#define EXIT_SOUND 0
#define EXIT_DAMAGED 1
#define EXIT_CANNOT 2

#define TOOL_KEY_TEXT (4 * RECORD_KEY_MAX + 1)
#define TOOL_PATH_MAX (4096 + 64)

struct tool {
    bool quiet;      /* no progress */
    const char *dir; /* the data directory looked at; locked */
    uint64_t last_ms;
    uint64_t keys, bytes, damaged; /* so far */
};

__attribute__((format(printf, 2, 3))) int tool_cannot(const struct tool *t, const char *format,
                                                      ...);
/* One more damage, named on stdout. */
__attribute__((format(printf, 2, 3))) void tool_damage(struct tool *t, const char *format, ...);
/* Once a second, on stderr. */
void tool_progress(struct tool *t, const char *what, uint64_t done, const char *unit);
/* As redis-cli prints it, without quotes; out: TOOL_KEY_TEXT bytes. */
const char *tool_key(struct slice key, char *out);

/* A page-aligned buffer of at least `size` bytes, kept between calls. False: out of memory. */
struct tool_buf {
    uint8_t *mem;
    uint64_t size;
};
bool tool_buf_grow(struct tool_buf *b, uint64_t size);

int verify_run(struct tool *t);
int salvage_run(struct tool *t, const char *new_dir);
int convert_run(struct tool *t, bool raft);

#endif

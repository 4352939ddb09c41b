/* SPDX-License-Identifier: MIT */
/* golden: bytes that format 1 is made of, from tests/compat/formats.txt.
 *
 * Purpose   golden_is() compares what an encoder gave with the bytes on file and hands those back
 *           for the decoder. With SLDMKV_GOLDEN=write in the environment the file is made anew
 *           instead: `make golden`, which only a format that is not released may do
 * Owner     what golden_is returns is static memory, valid until the next call
 * Limits    GOLDEN_MAX bytes a section
 */
#ifndef TESTS_UNIT_GOLDEN_H
#define TESTS_UNIT_GOLDEN_H

#include "base/slice.h"
#include "test.h"

#define GOLDEN_FILE "tests/compat/formats.txt"
enum { GOLDEN_MAX = 16384, GOLDEN_ROW = 16 };

/* Reads the section's bytes; rows that are left out are zeros. False: there is none. */
static inline bool golden_read(const char *name, uint8_t *out, size_t *len)
{
    FILE *f = fopen(GOLDEN_FILE, "r");
    char line[200], head[100];
    size_t head_len = (size_t)snprintf(head, sizeof(head), "[%s] ", name);
    bool found = false;

    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        char *at = line;
        size_t offset;

        if (line[0] == '[') {
            if (found)
                break;
            found = strncmp(line, head, head_len) == 0;
            *len = found ? strtoul(line + head_len, NULL, 10) : 0;
            memset(out, 0, GOLDEN_MAX);
            continue;
        }
        if (!found || line[0] == '#' || line[0] == '\n')
            continue;
        for (offset = strtoul(at, &at, 16); *at == ' ' && offset < GOLDEN_MAX; offset++)
            out[offset] = (uint8_t)strtoul(at, &at, 16);
    }
    if (f != NULL)
        fclose(f);
    return found;
}

static inline void golden_write(const char *name, struct slice bytes)
{
    static const uint8_t zeros[GOLDEN_ROW];
    FILE *f = fopen(GOLDEN_FILE, "a");

    CHECK(f != NULL);
    fprintf(f, "\n[%s] %zu\n", name, bytes.len);
    for (size_t at = 0; at < bytes.len; at += GOLDEN_ROW) {
        size_t n = bytes.len - at < GOLDEN_ROW ? bytes.len - at : GOLDEN_ROW;

        if (memcmp(bytes.ptr + at, zeros, n) == 0)
            continue;
        fprintf(f, "%04zx", at);
        for (size_t i = 0; i < n; i++)
            fprintf(f, " %02x", bytes.ptr[at + i]);
        fputc('\n', f);
    }
    CHECK_EQ_INT(fclose(f), 0);
}

static inline struct slice golden_is(const char *name, struct slice bytes)
{
    static uint8_t golden[GOLDEN_MAX];
    const char *mode = getenv("SLDMKV_GOLDEN");
    size_t len = 0;

    CHECK_LE_U64(bytes.len, GOLDEN_MAX);
    if (mode != NULL && strcmp(mode, "write") == 0)
        golden_write(name, bytes);
    if (!golden_read(name, golden, &len)) {
        fprintf(stderr, "# %s has no section %s\n", GOLDEN_FILE, name);
        test_fail(__FILE__, __LINE__);
    }
    if (len != bytes.len || memcmp(golden, bytes.ptr, len) != 0)
        fprintf(stderr, "# another format: %s\n", name);
    CHECK_EQ_U64(bytes.len, len);
    CHECK_EQ_MEM(bytes.ptr, golden, len);
    return slice_of(golden, len);
}

#endif

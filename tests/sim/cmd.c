/* SPDX-License-Identifier: MIT */
#include "cmd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keys.h"

#define BLOB_APART 512u /* shorter ones are copied into the text */

static int next_arg(struct args *a)
{
    if (a->n == ARGS_MAX)
        sim_fail("a command with too many arguments");
    a->v[a->n].blob = NULL;
    a->v[a->n].key = slice_of(NULL, 0);
    a->v[a->n].text[0] = '\0';
    return a->n++;
}

void arg_word(struct args *a, const char *word)
{
    snprintf(a->v[next_arg(a)].text, TEXT_MAX, "%s", word);
}

void arg_number(struct args *a, int64_t n)
{
    snprintf(a->v[next_arg(a)].text, TEXT_MAX, "%" PRId64, n);
}

void arg_key(struct args *a, int group, int key)
{
    a->v[next_arg(a)].key = key_name(group, key);
}

void arg_blob(struct args *a, const struct blob *b)
{
    a->v[next_arg(a)].blob = b;
}

/* ---- bytes -------------------------------------------------------------------------------- */

struct cmd *cmd_new(enum cmd_kind kind)
{
    struct cmd *c = calloc(1, sizeof(*c));

    c->kind = kind;
    return c;
}

static void add_chunk(struct cmd *c, const struct blob *b, size_t at, size_t len)
{
    struct cmd_chunk *last = c->nchunks > 0 ? &c->chunks[c->nchunks - 1] : NULL;

    c->len += len;
    if (b == NULL && last != NULL && last->blob == NULL) {
        last->len += len;
        return;
    }
    c->chunks = realloc(c->chunks, (c->nchunks + 1) * sizeof(*c->chunks));
    c->chunks[c->nchunks++] = (struct cmd_chunk){b, at, len};
}

void cmd_bytes(struct cmd *c, const void *bytes, size_t len)
{
    size_t at = c->text_len;

    if (len == 0)
        return;
    if (c->text_len + len > c->text_space) {
        c->text_space = 2 * (c->text_len + len);
        c->text = realloc(c->text, c->text_space);
    }
    memcpy(c->text + at, bytes, len);
    c->text_len += len;
    add_chunk(c, NULL, at, len);
}

static void add_header(struct cmd *c, char type, size_t n)
{
    char text[32];

    cmd_bytes(c, text, (size_t)snprintf(text, sizeof(text), "%c%zu\r\n", type, n));
}

void cmd_request(struct cmd *c, const struct args *a)
{
    c->replies++;
    add_header(c, '*', (size_t)a->n);
    for (int i = 0; i < a->n; i++) {
        const struct blob *b = a->v[i].blob;
        struct slice s = a->v[i].key.len > 0 ? a->v[i].key : slice_str(a->v[i].text);

        if (b != NULL)
            s = slice_of(b->bytes, b->len);
        add_header(c, '$', s.len);
        if (s.len >= BLOB_APART && b != NULL)
            add_chunk(c, b, 0, b->len);
        else
            cmd_bytes(c, s.ptr, s.len);
        cmd_bytes(c, "\r\n", 2);
    }
}

size_t cmd_copy(const struct cmd *c, size_t at, uint8_t *out, size_t len)
{
    size_t done = 0;

    for (size_t i = 0; i < c->nchunks && done < len; i++) {
        const struct cmd_chunk *k = &c->chunks[i];
        const uint8_t *from = k->blob != NULL ? k->blob->bytes : c->text + k->at;
        size_t n;

        if (at >= k->len) {
            at -= k->len;
            continue;
        }
        n = k->len - at < len - done ? k->len - at : len - done;
        memcpy(out + done, from + at, n);
        done += n;
        at = 0;
    }
    return done;
}

/* ---- operations --------------------------------------------------------------------------- */

struct operation *cmd_part(struct cmd *c, int group, int client)
{
    if (c->nparts == c->parts_space) {
        c->parts_space = c->parts_space == 0 ? 1 : 4 * c->parts_space;
        c->parts = realloc(c->parts, (size_t)c->parts_space * sizeof(*c->parts));
    }
    c->parts[c->nparts] = (struct cmd_part){.group = group};
    c->parts[c->nparts].op.client = client;
    return &c->parts[c->nparts++].op;
}

struct step *cmd_step(struct operation *op, enum step_kind kind, int key)
{
    if (op->nsteps == STEPS_MAX)
        sim_fail("an operation with too many steps");
    op->steps[op->nsteps] = (struct step){.kind = kind, .key = key, .element = -1};
    return &op->steps[op->nsteps++];
}

void cmd_free(struct cmd *c)
{
    free(c->text);
    free(c->chunks);
    free(c->parts);
    free(c);
}

void cmd_mark_blobs(const struct cmd *c)
{
    for (size_t i = 0; i < c->nchunks; i++)
        blob_mark(c->chunks[i].blob);
    for (int i = 0; i < c->nparts; i++)
        check_mark_operation(&c->parts[i].op);
}

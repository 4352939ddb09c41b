/* SPDX-License-Identifier: MIT */
/* cmd: one command of a client: its bytes, and the operations it stands for. */
#ifndef TESTS_SIM_CMD_H
#define TESTS_SIM_CMD_H

#include "base/slice.h"
#include "check.h"

enum { ARGS_MAX = 200, TEXT_MAX = 64 };

struct args {
    int n;
    struct {
        const struct blob *blob; /* or the key, or the text */
        struct slice key;
        char text[TEXT_MAX];
    } v[ARGS_MAX];
};

void arg_word(struct args *a, const char *word);
void arg_number(struct args *a, int64_t n);
void arg_key(struct args *a, int group, int key);
void arg_blob(struct args *a, const struct blob *b);

enum cmd_kind {
    CMD_PLAIN,  /* every step is answered by the reply, or by an element of it */
    CMD_TX,     /* MULTI … EXEC */
    CMD_DROPS,  /* MULTI … DISCARD: no effect */
    CMD_MATCH,  /* KVMATCH: match[] */
    CMD_LIST,   /* KEYS: who is in it and who is not */
    CMD_PAGE,   /* KVKEYS with a limit: those in it, and those it passed over */
    CMD_RANDOM, /* RANDOMKEY */
    CMD_SCAN,
    CMD_BACKUP,
    CMD_QUIET /* HELLO, PING: says nothing */
};

struct cmd_part {
    int group;
    struct operation op;
    struct check_op *running;
};

struct cmd_chunk {
    const struct blob *blob; /* NULL: text */
    size_t at, len;
};

struct cmd {
    struct cmd *next;
    enum cmd_kind kind;
    /* bytes */
    uint8_t *text;
    size_t text_len, text_space, len;
    struct cmd_chunk *chunks;
    size_t nchunks;
    uint64_t end; /* of its bytes in the stream */
    /* operations */
    struct cmd_part *parts;
    int nparts, parts_space;
    bool begun;
    int replies, got; /* TX has one for each command in it */
    uint64_t read_errors, began_ms;
    /* MATCH, LIST, PAGE: what was asked for, in order; part i is that of keys[i] */
    int keys[ARGS_MAX];
    int nkeys;
    uint64_t lease_ms, limit;
    char dir[300]; /* BACKUP */
};

struct cmd *cmd_new(enum cmd_kind kind);
void cmd_request(struct cmd *c, const struct args *a);        /* appends the bytes of one request */
void cmd_bytes(struct cmd *c, const void *bytes, size_t len); /* appends these */
/* One more operation; valid until the next. */
struct operation *cmd_part(struct cmd *c, int group, int client);
struct step *cmd_step(struct operation *op, enum step_kind kind, int key);
size_t cmd_copy(const struct cmd *c, size_t at, uint8_t *out, size_t len);
void cmd_free(struct cmd *c);
void cmd_mark_blobs(const struct cmd *c);

/* gen.c: the next thing this client might do; NULL: nothing now. */
struct gen_session {
    int client;
    int watch_group; /* -1: none */
    bool may_watch;
    bool scanning, scan_queued;
    char cursor[32];
};
struct cmd *gen_command(struct gen_session *s);
struct cmd *gen_get(int group, int key, int client);
struct cmd *gen_scan(struct gen_session *s);

#endif

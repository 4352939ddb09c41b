/* SPDX-License-Identifier: MIT */
/* err: the one table of error codes.
 *
 * Purpose   every function that can fail returns 0 or one of these, negative; foreign codes
 *           (errno, LMDB, libraft) are translated in the file that calls the library
 * Threads   any
 * Errors    ERR_X is -1, -2, …; err_text() and err_resp() never return NULL
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

/* code, RESP prefix, text an operator or a client can act on */
#define ERR_TABLE(X)                                                                               \
    X(NOMEM, "ERR", "out of memory")                                                               \
    X(IO, "IOERR", "input/output error on the data directory, see the server log")                 \
    X(NOSPC, "MISCONF", "no space left on the device of data-dir: free some and try again")        \
    X(FULL, "OOM", "command not allowed: the store is full and nothing can be evicted")            \
    X(CORRUPT, "ERR", "stored data is damaged")                                                    \
    X(NOTFOUND, "ERR", "no such key")                                                              \
    X(AGAIN, "TRYAGAIN", "busy, try again")                                                        \
    X(INVAL, "ERR", "invalid argument")                                                            \
    X(EXISTS, "ERR", "already exists")                                                             \
    X(VERSION, "ERR", "written by a newer version")                                                \
    X(LOCKED, "ERR", "in use by another process")                                                  \
    X(ACCESS, "ERR", "permission denied")                                                          \
    X(UNSUPPORTED, "ERR", "not supported here")                                                    \
    X(CANCELED, "ERR", "canceled by shutdown")                                                     \
    X(TOOBIG, "ERR", "value or request over the limit")                                            \
    X(NOTLEADER, "ERR", "this node does not lead")                                                 \
    X(UNKNOWN, "UNKNOWN", "the outcome of this write is unknown: it may or may not take effect")   \
    X(LOADING, "LOADING", "the server is replaying its log")

enum err_code {
    ERR_NONE_ = 0,
#define X(name, prefix, text) ERR_POS_##name,
    ERR_TABLE(X)
#undef X
        ERR_COUNT_
};

enum {
#define X(name, prefix, text) ERR_##name = -(int)ERR_POS_##name,
    ERR_TABLE(X)
#undef X
};

/* err: 0 or an ERR_ code. */
const char *err_text(int err);
const char *err_resp(int err); /* RESP error prefix without the dash: "ERR", "OOM", … */
int err_from_errno(int errnum);

#endif

/* SPDX-License-Identifier: MIT */
/* config: every directive, once.
 *
 * Purpose   one table row per directive gives the conf line, the command-line flag, CONFIG GET and
 *           SET, the default and the allowed values; conf/sldmkv.conf documents each (a test holds
 *           it to the table)
 * Threads   loop (and main before it)
 * Owner     struct config owns its strings
 * Units     bytes, ms, seconds as the directive's name or the conf file says; sizes take k kb m mb
 *           g gb t tb, as redis.conf counts them
 * Errors    ERR_INVAL with one line in detail: file, line, directive, allowed values
 * Limits    CONFIG_LINE_MAX bytes a line, CONFIG_HOST_MAX a host name
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_LINE_MAX 4096
#define CONFIG_DETAIL_MAX 512
#define CONFIG_HOST_MAX 256

struct config {
    /* identity and place */
    int64_t server_id;
    char *data_dir;
    bool raft;
    /* network */
    char *listen; /* host:port, excludes bind and port */
    char *bind;   /* addresses, separated by spaces */
    int64_t port, tcp_backlog, tcp_keepalive_s, timeout_s, maxclients;
    char *unixsocket;
    char *unixsocketperm;
    bool protected_mode;
    char *requirepass;
    /* sizes; 0 = chosen at start from the machine */
    int64_t proto_max_bulk_len;
    int64_t max_store_bytes, max_memory_bytes, max_index_bytes, volume_size;
    int64_t inline_max;
    int64_t read_threads;
    /* behaviour */
    int64_t lookup_lease_ms, progress_timeout_s, shutdown_timeout_s;
    int64_t slowlog_slower_us, slowlog_max_len, latency_threshold_ms;
    int64_t debug_command; /* enum config_debug */
    /* log */
    int64_t loglevel; /* enum logger_level */
    char *logfile;
    /* reported for tools that ask; constant */
    char *save, *appendonly, *maxmemory_policy;
    int64_t databases;
};

enum config_debug { CONFIG_DEBUG_NO, CONFIG_DEBUG_YES, CONFIG_DEBUG_LOCAL };

enum config_type {
    CONFIG_BOOL,
    CONFIG_INT,
    CONFIG_BYTES,
    CONFIG_ENUM,
    CONFIG_STRING,
    CONFIG_ADDRESS, /* text: host:port, or empty */
    CONFIG_MODE     /* text: permissions in octal */
};

enum {                            /* flags of a directive */
       CONFIG_MUTABLE = 1u << 0,  /* CONFIG SET works */
       CONFIG_SECRET = 1u << 1,   /* never in the log */
       CONFIG_CONSTANT = 1u << 2, /* only its default is allowed */
};

struct config_row {
    const char *name;
    const char *alias; /* NULL: none */
    enum config_type type;
    unsigned flags;
    size_t offset;
    int64_t min, max;         /* CONFIG_INT, CONFIG_BYTES */
    const char *const *words; /* CONFIG_ENUM: NULL-terminated, index = value */
    const char *def;
};

const struct config_row *config_table(size_t *count);
const struct config_row *config_find(const char *name, size_t len);

int config_init(struct config *c); /* the defaults */
void config_fini(struct config *c);

int config_load_file(struct config *c, const char *path, char *detail);
/* argv without the program name: [conf-file] [--directive value…]… */
int config_load_args(struct config *c, int argc, char **argv, char *detail);
/* What single rows cannot see: listen against bind and port. */
int config_check(const struct config *c, char *detail);

/* Sets from text; where: "conf/x.conf:12" or "command line", for detail. */
int config_set(struct config *c, const struct config_row *row, const char *value, const char *where,
               char *detail);
/* Text as CONFIG GET answers it; out: CONFIG_LINE_MAX bytes. */
void config_get(const struct config *c, const struct config_row *row, char *out);
/* "yes|no", "1 to 65535", … for messages and documentation. */
void config_allowed(const struct config_row *row, char *out, size_t size);
/* The number a text stands for, units included, whatever the allowed range. False: none. */
bool config_number(const struct config_row *row, const char *text, int64_t *out);
/* Takes host:port apart; a host with a ':' in it stands in brackets, [::1]:50051, an empty one is
 * "*". False: it is something else. host: CONFIG_HOST_MAX bytes. */
bool config_address(const char *text, char *host, int64_t *port);
/* An automatic size that main has decided on. */
void config_put_number(struct config *c, const struct config_row *row, int64_t value);
/* CONFIG REWRITE: puts the current values of the rows in `changed` (bits by row) into the file,
 * each in place of the line that has it, else behind the last line. Everything else stays as it
 * is. Atomic: a new file is renamed over the old one. */
int config_rewrite(const struct config *c, const char *path, uint64_t changed, char *detail);

#endif

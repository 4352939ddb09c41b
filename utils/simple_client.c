/* SPDX-License-Identifier: MIT */
/* simple_client: one KV-cache block stored, found, listed, retrieved and deleted from C (hiredis).
 *
 *   simple_client [host [port [MiB]]]    default 127.0.0.1 50051 2: the size of the block
 *
 * Every reply is compared with what it must be, the value byte for byte. Exit 0: all as expected;
 * 1: the server answered something else or not at all; 2: wrong usage.
 */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_HOST "127.0.0.1"
#define DEFAULT_PORT 50051
#define DEFAULT_MIB 2
#define MIB_MAX 512
#define MODEL "llama-3-8b"
#define TOKENS 16
#define CONNECT_S 5
#define REPLY_S 30

struct session {
    redisContext *c;
    char prefix[64], key[80]; /* of this process: two runs at a time do not meet */
    uint8_t *value;
    size_t bytes;
};

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool wrong(const char *command, const char *what)
{
    fprintf(stderr, "simple_client: %s: %s\n", command, what);
    return false;
}

/* True: a reply of this type. Says what came instead. */
static bool expect_type(const struct session *s, const char *command, const redisReply *r, int type)
{
    if (r == NULL)
        return wrong(command, s->c->errstr);
    if (r->type == REDIS_REPLY_ERROR)
        return wrong(command, r->str);
    if (r->type != type)
        return wrong(command, "a reply of another type than expected");
    return true;
}

static bool expect_int(const struct session *s, const char *command, redisReply *r, long long want)
{
    bool good = expect_type(s, command, r, REDIS_REPLY_INTEGER);

    if (good && r->integer != want)
        good = wrong(command, "another number than expected");
    if (good)
        printf("%-8s %lld\n", command, want);
    freeReplyObject(r);
    return good;
}

static bool is_value(const struct session *s, const redisReply *r)
{
    return r->type == REDIS_REPLY_STRING && r->len == s->bytes &&
           memcmp(r->str, s->value, s->bytes) == 0;
}

static bool store(struct session *s)
{
    double began = now_s();
    redisReply *r = redisCommand(s->c, "KVSTORE %s %b MODEL %s SEQ %s TOKENS %d EX %d", s->key,
                                 s->value, s->bytes, MODEL, "1", TOKENS, 600);
    bool good = expect_type(s, "KVSTORE", r, REDIS_REPLY_STATUS);

    if (good && strcmp(r->str, "OK") != 0)
        good = wrong("KVSTORE", r->str);
    if (good)
        printf("KVSTORE  %s: %zu bytes, durable after %.1f ms\n", s->key, s->bytes,
               (now_s() - began) * 1e3);
    freeReplyObject(r);
    return good;
}

/* The value of `name` in the map of KVGET META (RESP2: names and values in turn). */
static const redisReply *field(const redisReply *map, const char *name)
{
    for (size_t i = 0; i + 1 < map->elements; i += 2) {
        if (map->element[i]->type == REDIS_REPLY_STRING && strcmp(map->element[i]->str, name) == 0)
            return map->element[i + 1];
    }
    return NULL;
}

static bool check_meta(const struct session *s, const redisReply *map)
{
    const redisReply *value = field(map, "value"), *model = field(map, "model");
    const redisReply *tokens = field(map, "tokens"), *ttl = field(map, "ttl");
    const redisReply *digest = field(map, "digest");

    if (model == NULL || model->type != REDIS_REPLY_STRING || strcmp(model->str, MODEL) != 0)
        return wrong("KVGET META", "model is not what was stored");
    if (tokens == NULL || tokens->type != REDIS_REPLY_INTEGER || tokens->integer != TOKENS)
        return wrong("KVGET META", "tokens is not what was stored");
    if (ttl == NULL || ttl->type != REDIS_REPLY_INTEGER || ttl->integer <= 0)
        return wrong("KVGET META", "the expiry was lost");
    if (digest == NULL || digest->type != REDIS_REPLY_STRING)
        return wrong("KVGET META", "no digest");
    if (value == NULL || !is_value(s, value))
        return wrong("KVGET META", "the value differs from what was stored");
    printf("KVGET    model=%s tokens=%lld ttl=%lld ms digest=%s: %zu bytes are equal\n", model->str,
           tokens->integer, ttl->integer, digest->str, value->len);
    return true;
}

static bool retrieve(struct session *s)
{
    redisReply *r = redisCommand(s->c, "KVGET %s META", s->key);
    bool good = expect_type(s, "KVGET META", r, REDIS_REPLY_ARRAY) && check_meta(s, r);

    freeReplyObject(r);
    if (!good)
        return false;
    r = redisCommand(s->c, "KVGET %s", s->key);
    good = expect_type(s, "KVGET", r, REDIS_REPLY_STRING) &&
           (is_value(s, r) || wrong("KVGET", "the value differs from what was stored"));
    freeReplyObject(r);
    return good;
}

static bool list(struct session *s)
{
    redisReply *r = redisCommand(s->c, "KVKEYS %s LIMIT 10", s->prefix);
    bool good = expect_type(s, "KVKEYS", r, REDIS_REPLY_ARRAY);

    if (good && (r->elements != 1 || r->element[0]->type != REDIS_REPLY_STRING ||
                 strcmp(r->element[0]->str, s->key) != 0))
        good = wrong("KVKEYS", "not exactly the key that was stored");
    if (good)
        printf("KVKEYS   %s* → %s\n", s->prefix, s->key);
    freeReplyObject(r);
    return good;
}

static bool delete_and_miss(struct session *s)
{
    redisReply *r;
    bool good;

    if (!expect_int(s, "KVDEL", redisCommand(s->c, "KVDEL %s", s->key), 1))
        return false;
    r = redisCommand(s->c, "KVGET %s", s->key);
    good = expect_type(s, "KVGET", r, REDIS_REPLY_NIL);
    if (good)
        printf("KVGET    nil, as it must be after KVDEL\n");
    freeReplyObject(r);
    return good;
}

static bool run(struct session *s)
{
    return store(s) &&
           expect_int(s, "KVMATCH", redisCommand(s->c, "KVMATCH %s %s:absent", s->key, s->key),
                      1) &&
           list(s) && retrieve(s) && delete_and_miss(s);
}

/* Every byte value, CR and LF among them, and no short period. */
static void fill(struct session *s)
{
    uint64_t x = (uint64_t)getpid() + 1;

    for (size_t i = 0; i < s->bytes; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        s->value[i] = (uint8_t)(x >> 56);
    }
}

int main(int argc, char **argv)
{
    const char *host = argc > 1 ? argv[1] : DEFAULT_HOST;
    int port = argc > 2 ? atoi(argv[2]) : DEFAULT_PORT;
    int mib = argc > 3 ? atoi(argv[3]) : DEFAULT_MIB;
    struct session s = {0};
    bool good;

    if (argc > 4 || host[0] == '-' || port < 1 || port > 65535 || mib < 1 || mib > MIB_MAX) {
        fprintf(stderr, "usage: simple_client [host [port [MiB]]]\n");
        return 2;
    }
    s.c = redisConnectWithTimeout(host, port, (struct timeval){CONNECT_S, 0});
    if (s.c == NULL || s.c->err != 0) {
        fprintf(stderr, "simple_client: %s:%d: %s\n", host, port,
                s.c == NULL ? "out of memory" : s.c->errstr);
        redisFree(s.c);
        return 1;
    }
    redisSetTimeout(s.c, (struct timeval){REPLY_S, 0});
    s.bytes = (size_t)mib << 20;
    s.value = malloc(s.bytes);
    if (s.value == NULL) {
        fprintf(stderr, "simple_client: out of memory\n");
        redisFree(s.c);
        return 1;
    }
    fill(&s);
    snprintf(s.prefix, sizeof(s.prefix), "simple_client:%ld:", (long)getpid());
    snprintf(s.key, sizeof(s.key), "%sblock:0", s.prefix);
    printf("connected to %s:%d\n", host, port);
    good = run(&s);
    free(s.value);
    redisFree(s.c);
    printf("%s\n", good ? "all replies as expected" : "FAILED");
    return good ? 0 : 1;
}

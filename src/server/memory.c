/* SPDX-License-Identifier: MIT */
#include "server/memory.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define JEMALLOC_ALL_ARENAS "4096"

/* A build has jemalloc or a sanitizer; weak, so that each links without the other. */
__attribute__((weak)) int mallctl(const char *name, void *old, size_t *old_len, void *new_value,
                                  size_t new_len);
__attribute__((weak)) void malloc_stats_print(void (*write)(void *ctx, const char *text), void *ctx,
                                              const char *options);
__attribute__((weak)) size_t __sanitizer_get_current_allocated_bytes(void);

static bool has_jemalloc(void)
{
    return mallctl != NULL;
}

static uint64_t jemalloc_size(const char *name)
{
    size_t v = 0, len = sizeof(v);

    return mallctl(name, &v, &len, NULL, 0) == 0 ? v : 0;
}

static void read_allocator(struct memory *m)
{
    uint64_t epoch = 1;
    size_t len = sizeof(epoch);

    if (has_jemalloc()) {
        mallctl("epoch", &epoch, &len, &epoch, len); /* its figures are of the last epoch */
        m->allocated = jemalloc_size("stats.allocated");
        m->active = jemalloc_size("stats.active");
        m->resident = jemalloc_size("stats.resident");
    } else if (__sanitizer_get_current_allocated_bytes != NULL) {
        m->allocated = __sanitizer_get_current_allocated_bytes();
        m->active = m->resident = m->allocated;
    }
}

static void read_resident(struct memory *m)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    uint64_t kib;

    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "VmRSS: %" SCNu64, &kib) == 1)
            m->rss = kib * 1024;
        else if (sscanf(line, "RssAnon: %" SCNu64, &kib) == 1)
            m->rss_anon = kib * 1024;
        else if (sscanf(line, "RssFile: %" SCNu64, &kib) == 1)
            m->rss_file = kib * 1024;
    }
    if (f != NULL)
        fclose(f);
}

void memory_read(const struct server *s, struct memory *out)
{
    memset(out, 0, sizeof(*out));
    read_allocator(out);
    read_resident(out);
    out->payload_used = buf_pool_used(s->pool);
    out->payload_kept = buf_pool_kept(s->pool);
    out->payload_limit = buf_pool_limit(s->pool);
    out->used = out->allocated + out->payload_used + out->payload_kept;
    for (const struct conn *c = s->conns; c != NULL; c = c->next)
        out->clients += conn_memory(c);
    out->system = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGE_SIZE);
}

void memory_sample(struct server *s)
{
    struct memory m = {0};
    uint64_t used;

    read_allocator(&m);
    used = m.allocated + buf_pool_used(s->pool) + buf_pool_kept(s->pool);
    if (used > s->load.memory_peak)
        s->load.memory_peak = used;
}

const char *memory_allocator(void)
{
    static char text[64];
    const char *version = "";
    size_t len = sizeof(version);

    if (!has_jemalloc())
        return "sanitizer";
    mallctl("version", &version, &len, NULL, 0);
    snprintf(text, sizeof(text), "jemalloc-%.*s", (int)strcspn(version, "-"), version);
    return text;
}

void memory_purge(void)
{
    if (has_jemalloc())
        mallctl("arena." JEMALLOC_ALL_ARENAS ".purge", NULL, NULL, NULL, 0);
    else
        malloc_trim(0);
}

static void on_report(void *ctx, const char *text)
{
    text_add(ctx, "%s", text);
}

void memory_report(struct text *out)
{
    if (malloc_stats_print != NULL)
        malloc_stats_print(on_report, out, NULL);
    else
        text_add(out, "The allocator of this build keeps no statistics.\n");
}

void memory_human(uint64_t bytes, char *out)
{
    static const char units[] = "BKMGTP";
    double v = (double)bytes;
    unsigned u = 0;

    while (v >= 1024 && u < sizeof(units) - 2) {
        v /= 1024;
        u++;
    }
    if (u == 0)
        snprintf(out, 32, "%" PRIu64 "B", bytes);
    else
        snprintf(out, 32, "%.2f%c", v, units[u]);
}

/* SPDX-License-Identifier: MIT */
/* INFO: sections as Redis names them, and Kvcache, Raft, Storage. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/cmd_server.h"
#include "server/server.h"
#include "server/stats.h"
#include "server/text.h"
#include "server/version.h"

static void add_metrics(struct text *t, struct server *s, const char *section)
{
    for (unsigned m = 0; m < METRIC_COUNT; m++)
        if (strcmp(metric_row(m)->section, section) == 0)
            text_add(t, "%s:%" PRIu64 "\r\n", metric_row(m)->field, s->metrics.v[m]);
}

static void info_server(struct text *t, struct server *s)
{
    uint64_t up = (clock_now_ms(&s->clock) - s->start_ms) / 1000;

    text_add(t,
             "redis_version:%s\r\nsldmkv_version:%s\r\nredis_mode:standalone\r\n"
             "process_id:%d\r\nrun_id:%s\r\ntcp_port:%" PRId64 "\r\nuptime_in_seconds:%" PRIu64
             "\r\nuptime_in_days:%" PRIu64 "\r\nexecutable:%s\r\nconfig_file:%s\r\n",
             SERVER_REDIS_VERSION, SERVER_VERSION, (int)getpid(), s->run_id, s->config->port, up,
             up / 86400, s->executable, s->config_file);
}

static void info_clients(struct text *t, struct server *s)
{
    unsigned blocked = 0;

    for (const struct conn *c = s->conns; c != NULL; c = c->next)
        blocked += c->direct_waiting;
    text_add(t, "connected_clients:%u\r\nmaxclients:%" PRId64 "\r\nblocked_clients:%u\r\n",
             s->nconns, s->config->maxclients, blocked);
}

/* Resident bytes by kind, as the kernel counts them. */
static void resident(uint64_t *anon, uint64_t *file)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];

    *anon = *file = 0;
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        sscanf(line, "RssAnon: %" SCNu64, anon);
        sscanf(line, "RssFile: %" SCNu64, file);
    }
    if (f != NULL)
        fclose(f);
    *anon *= 1024;
    *file *= 1024;
}

static void info_memory(struct text *t, struct server *s)
{
    uint64_t anon, file;

    resident(&anon, &file);
    text_add(t,
             "used_memory:%" PRIu64 "\r\nused_memory_rss:%" PRIu64 "\r\nrss_anon:%" PRIu64
             "\r\nrss_file:%" PRIu64
             "\r\nmaxmemory:%zu\r\nmaxmemory_policy:%s\r\npayload_used:%zu\r\npayload_kept:%zu\r\n",
             anon, anon + file, anon, file, buf_pool_limit(s->pool), s->config->maxmemory_policy,
             buf_pool_used(s->pool), buf_pool_kept(s->pool));
}

static void info_persistence(struct text *t, struct server *s)
{
    struct store_counts c;

    store_get_counts(s->store, &c);
    text_add(t,
             "loading:%d\r\nasync_loading:0\r\nrdb_changes_since_last_save:%" PRIu64
             "\r\nrdb_bgsave_in_progress:0\r\nrdb_last_save_time:%" PRIu64
             "\r\nrdb_last_bgsave_status:ok\r\naof_enabled:1\r\naof_rewrite_in_progress:0\r\n"
             "aof_last_write_status:ok\r\ncheckpoints:%" PRIu64 "\r\ncheckpoint_failures:%" PRIu64
             "\r\ncheckpoint_last_us:%" PRIu64 "\r\n",
             s->state == SERVER_LOADING, c.table_keys, c.last_checkpoint_ms / 1000, c.checkpoints,
             c.checkpoint_failures, c.checkpoint_last_us);
}

static void info_stats(struct text *t, struct server *s)
{
    struct store_counts c;

    store_get_counts(s->store, &c);
    add_metrics(t, s, "stats");
    text_add(t,
             "expired_keys:%" PRIu64 "\r\nevicted_keys:%" PRIu64 "\r\nloop_turn_p99_us:%" PRIu64
             "\r\nloop_turn_max_us:%" PRIu64 "\r\n",
             c.expired, c.evicted, metric_hist_quantile(&s->turns, 0.99), s->turns.max_us);
}

static void info_replication(struct text *t, struct server *s)
{
    text_add(t,
             "role:master\r\nconnected_slaves:0\r\nmaster_replid:%s\r\nmaster_repl_offset:%" PRIu64
             "\r\n",
             s->run_id, store_applied_index(s->store));
}

static void info_kvcache(struct text *t, struct server *s)
{
    struct tier_stats tier;

    tier_get_stats(s->tier, &tier);
    add_metrics(t, s, "kvcache");
    text_add(t,
             "tier_items:%" PRIu64 "\r\ntier_bytes:%" PRIu64 "\r\ntier_hits:%" PRIu64
             "\r\ntier_misses:%" PRIu64 "\r\ndisk_loads:%" PRIu64 "\r\ndisk_load_bytes:%" PRIu64
             "\r\ndisk_load_errors:%" PRIu64 "\r\nleases:%zu\r\n",
             tier.items, tier.bytes, tier.hits, tier.misses, tier.loads, tier.load_bytes,
             tier.load_errors, lease_count(store_lease(s->store), clock_now_ms(&s->clock)));
}

static void info_raft(struct text *t, struct server *s)
{
    struct log_stats l;
    struct write_stats w;

    log_stats(s->log, &l);
    write_get_stats(s->write, &w);
    text_add(t,
             "raft_enabled:%d\r\nterm:%" PRIu64 "\r\nlast_index:%" PRIu64
             "\r\napplied_index:%" PRIu64 "\r\ndurable_index:%" PRIu64 "\r\nsnapshot_index:%" PRIu64
             "\r\nsnapshots:%" PRIu64 "\r\nsnapshot_failures:%" PRIu64
             "\r\nlog_bytes_since_snapshot:%" PRIu64 "\r\ngroups:%" PRIu64
             "\r\ngrouped_commands:%" PRIu64 "\r\nwaiting_for_room:%" PRIu64 "\r\n",
             s->config->raft, l.term, l.last_index, store_applied_index(s->store),
             store_durable_index(s->store), l.snapshot_index, l.snapshots, l.snapshot_failures,
             l.bytes_since_snapshot, w.groups, w.units, w.waiting);
}

static void info_storage(struct text *t, struct server *s)
{
    struct volumes_stats v;
    struct store_counts c;
    struct stage_stats g;

    volumes_get_stats(store_volumes(s->store), &v);
    store_get_counts(s->store, &c);
    stage_get_stats(store_stage(s->store), &g);
    text_add(t,
             "max_store_bytes:%" PRId64 "\r\nvolumes:%" PRIu64 "\r\nvolumes_free:%" PRIu64
             "\r\nvolumes_sealed:%" PRIu64 "\r\nvolumes_failed:%" PRIu64
             "\r\nvolumes_recycled:%" PRIu64 "\r\ncapacity_bytes:%" PRIu64 "\r\nlive_bytes:%" PRIu64
             "\r\nlive_records:%" PRIu64 "\r\nmoved_records:%" PRIu64 "\r\nmoved_bytes:%" PRIu64
             "\r\nstaged_payloads:%" PRIu64 "\r\nstaged_bytes:%" PRIu64
             "\r\nstage_failures:%" PRIu64 "\r\nlogical_bytes:%" PRIu64 "\r\n",
             s->config->max_store_bytes, v.count, v.free, v.sealed, v.failed, v.recycled,
             v.capacity_bytes, v.live_bytes, v.live_records, c.moved, c.moved_bytes, g.payloads,
             g.bytes, g.failures, c.bytes);
}

static void info_commandstats(struct text *t, struct server *s)
{
    const struct command *c;

    (void)s;
    for (size_t i = 0; (c = stats_command_at(i)) != NULL; i++) {
        const struct command_stats *st = stats_of(c);

        if (st->calls > 0)
            text_add(t,
                     "cmdstat_%s:calls=%" PRIu64 ",usec=%" PRIu64 ",usec_per_call=%.2f,"
                     "rejected_calls=%" PRIu64 ",failed_calls=%" PRIu64 "\r\n",
                     c->name, st->calls, st->time.sum_us,
                     (double)st->time.sum_us / (double)st->calls, st->rejected, st->failed);
    }
}

static void info_errorstats(struct text *t, struct server *s)
{
    const struct error_stats *e;

    (void)s;
    for (size_t i = 0; (e = stats_error_at(i)) != NULL; i++)
        text_add(t, "errorstat_%s:count=%" PRIu64 "\r\n", e->prefix, e->count);
}

static void info_cluster(struct text *t, struct server *s)
{
    (void)s;
    text_add(t, "cluster_enabled:0\r\n");
}

static void info_keyspace(struct text *t, struct server *s)
{
    struct store_counts c;

    store_get_counts(s->store, &c);
    if (c.keys > 0)
        text_add(t, "db0:keys=%" PRIu64 ",expires=%" PRIu64 ",avg_ttl=0\r\n", c.keys, c.expires);
}

static const struct {
    const char *name, *title;
    void (*add)(struct text *t, struct server *s);
    bool by_default;
} sections[] = {
    {"server", "Server", info_server, true},
    {"clients", "Clients", info_clients, true},
    {"memory", "Memory", info_memory, true},
    {"persistence", "Persistence", info_persistence, true},
    {"stats", "Stats", info_stats, true},
    {"replication", "Replication", info_replication, true},
    {"kvcache", "Kvcache", info_kvcache, true},
    {"raft", "Raft", info_raft, true},
    {"storage", "Storage", info_storage, true},
    {"commandstats", "Commandstats", info_commandstats, false},
    {"errorstats", "Errorstats", info_errorstats, true},
    {"cluster", "Cluster", info_cluster, true},
    {"keyspace", "Keyspace", info_keyspace, true},
};

static bool wanted(struct request *rq, size_t i)
{
    for (int a = 1; a < rq->argc; a++) {
        if (command_is(rq, a, sections[i].name) || command_is(rq, a, "all") ||
            command_is(rq, a, "everything"))
            return true;
        if (command_is(rq, a, "default") && sections[i].by_default)
            return true;
    }
    return rq->argc == 1 && sections[i].by_default;
}

void cmd_info_run(struct request *rq)
{
    struct text t = {0};

    if (rq->server->state == SERVER_LOADING) {
        emit_verbatim(request_emit(rq), "txt", slice_str("# Persistence\r\nloading:1\r\n"));
        return;
    }
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        if (!wanted(rq, i))
            continue;
        text_add(&t, "%s# %s\r\n", t.len > 0 ? "\r\n" : "", sections[i].title);
        sections[i].add(&t, rq->server);
    }
    emit_verbatim(request_emit(rq), "txt", text_slice(&t));
    text_fini(&t);
}

/* SPDX-License-Identifier: MIT */
/* INFO: sections and fields as Redis names them, as far as they mean something here, because tools
 * read them by name; info_store.c has the sections that are ours.
 */
#include <event2/buffer.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "server/cmd_server.h"
#include "server/info.h"
#include "server/memory.h"
#include "server/version.h"

void info_number(struct text *t, const char *field, uint64_t value)
{
    text_add(t, "%s:%" PRIu64 "\r\n", field, value);
}

void info_metrics(struct text *t, const struct server *s, const char *section)
{
    for (unsigned m = 0; m < METRIC_COUNT; m++)
        if (strcmp(metric_row(m)->section, section) == 0)
            info_number(t, metric_row(m)->field, s->metrics.v[m]);
}

/* listen has it in front when bind and port are not used. */
static const char *port_of(const struct config *c, char *out, size_t size)
{
    if (c->listen[0] != '\0')
        return strrchr(c->listen, ':') + 1; /* config_check saw to it */
    snprintf(out, size, "%" PRId64, c->port);
    return out;
}

static void info_server(struct text *t, struct server *s)
{
    uint64_t up_s = (server_now_us(s) - s->created_us) / 1000000;
    struct utsname os;
    char port[24];

    if (uname(&os) != 0)
        memset(&os, 0, sizeof(os));
    text_add(t, "redis_version:%s\r\nsldmkv_version:%s\r\nredis_mode:standalone\r\n",
             SERVER_REDIS_VERSION, SERVER_VERSION);
    text_add(t, "os:%s %s %s\r\narch_bits:%zu\r\nmonotonic_clock:POSIX clock_gettime\r\n",
             os.sysname, os.release, os.machine, sizeof(void *) * 8);
    text_add(t, "multiplexing_api:%s\r\n", event_base_get_method(s->base));
    info_number(t, "process_id", (uint64_t)getpid());
    text_add(t, "run_id:%s\r\ntcp_port:%s\r\n", s->run_id, port_of(s->config, port, sizeof(port)));
    info_number(t, "server_time_usec", clock_now_ms(&s->clock) * 1000);
    info_number(t, "uptime_in_seconds", up_s);
    info_number(t, "uptime_in_days", up_s / 86400);
    info_number(t, "clock_steps", s->clock.steps);
    text_add(t, "executable:%s\r\nconfig_file:%s\r\n", s->executable, s->config_file);
}

static void info_clients(struct text *t, struct server *s)
{
    uint64_t waiting = 0, output_max = 0, input_max = 0;

    for (const struct conn *c = s->conns; c != NULL; c = c->next) {
        size_t output = evbuffer_get_length(c->out);

        waiting += c->direct_waiting;
        output_max = output > output_max ? output : output_max;
        input_max = c->in_len > input_max ? c->in_len : input_max;
    }
    info_number(t, "connected_clients", s->nconns);
    info_number(t, "cluster_connections", 0);
    info_number(t, "maxclients", (uint64_t)s->config->maxclients);
    info_number(t, "client_recent_max_input_buffer", input_max);
    info_number(t, "client_recent_max_output_buffer", output_max);
    info_number(t, "blocked_clients", 0);
    info_number(t, "tracking_clients", 0);
    info_number(t, "clients_waiting_for_memory", waiting);
}

static void add_size(struct text *t, const char *field, uint64_t bytes)
{
    char human[32];

    memory_human(bytes, human);
    text_add(t, "%s:%" PRIu64 "\r\n%s_human:%s\r\n", field, bytes, field, human);
}

/* How much `of` is over `base`: the ratio, and the bytes. */
static void add_overhead(struct text *t, const char *ratio, const char *bytes, uint64_t of,
                         uint64_t base)
{
    text_add(t, "%s:%.2f\r\n", ratio, base > 0 ? (double)of / (double)base : 0.0);
    text_add(t, "%s:%" PRId64 "\r\n", bytes, (int64_t)(of - base));
}

static void info_memory(struct text *t, struct server *s)
{
    struct store_counts c;
    struct memory m;

    memory_read(s, &m);
    store_get_counts(s->store, &c);
    if (m.used > s->load.memory_peak)
        s->load.memory_peak = m.used;
    add_size(t, "used_memory", m.used);
    add_size(t, "used_memory_rss", m.rss);
    info_number(t, "rss_anon", m.rss_anon);
    info_number(t, "rss_file", m.rss_file);
    add_size(t, "used_memory_peak", s->load.memory_peak);
    text_add(t, "used_memory_peak_perc:%.2f%%\r\n",
             s->load.memory_peak > 0 ? 100.0 * (double)m.used / (double)s->load.memory_peak : 0.0);
    info_number(t, "used_memory_overhead", m.clients + c.table_bytes);
    info_number(t, "used_memory_dataset", m.payload_used);
    info_number(t, "used_memory_table", c.table_bytes);
    info_number(t, "payload_used_bytes", m.payload_used);
    info_number(t, "payload_kept_bytes", m.payload_kept);
    info_number(t, "allocator_allocated", m.allocated);
    info_number(t, "allocator_active", m.active);
    info_number(t, "allocator_resident", m.resident);
    add_size(t, "total_system_memory", m.system);
    add_size(t, "maxmemory", m.payload_limit);
    text_add(t, "maxmemory_policy:%s\r\n", s->config->maxmemory_policy);
    add_overhead(t, "allocator_frag_ratio", "allocator_frag_bytes", m.active, m.allocated);
    add_overhead(t, "allocator_rss_ratio", "allocator_rss_bytes", m.resident, m.active);
    add_overhead(t, "rss_overhead_ratio", "rss_overhead_bytes", m.rss, m.resident);
    add_overhead(t, "mem_fragmentation_ratio", "mem_fragmentation_bytes", m.rss, m.used);
    info_number(t, "mem_clients_normal", m.clients);
    text_add(t, "mem_allocator:%s\r\n", memory_allocator());
}

/* The log is what Redis would call the AOF, a checkpoint its RDB. */
static void info_persistence(struct text *t, struct server *s)
{
    struct store_counts c;
    uint64_t saved_ms;

    store_get_counts(s->store, &c);
    saved_ms = c.last_checkpoint_ms > 0 ? c.last_checkpoint_ms : s->start_ms;
    info_number(t, "loading", s->state == SERVER_LOADING);
    info_number(t, "async_loading", 0);
    info_number(t, "rdb_changes_since_last_save", c.table_keys);
    info_number(t, "rdb_bgsave_in_progress", store_checkpoint_running(s->store));
    info_number(t, "rdb_last_save_time", saved_ms / 1000);
    text_add(t, "rdb_last_bgsave_status:%s\r\n", c.checkpoint_failures > 0 ? "err" : "ok");
    info_number(t, "rdb_saves", c.checkpoints);
    info_number(t, "aof_enabled", 1);
    info_number(t, "aof_rewrite_in_progress", 0);
    info_number(t, "aof_rewrite_scheduled", 0);
    text_add(t, "aof_last_bgrewrite_status:ok\r\naof_last_write_status:ok\r\n");
}

static void info_stats(struct text *t, struct server *s)
{
    struct store_counts c;

    store_get_counts(s->store, &c);
    info_metrics(t, s, "stats");
    text_add(t, "instantaneous_ops_per_sec:%.0f\r\n", stats_rate(s->load.ops));
    text_add(t, "instantaneous_input_kbps:%.2f\r\n", stats_rate(s->load.in) / 1024);
    text_add(t, "instantaneous_output_kbps:%.2f\r\n", stats_rate(s->load.out) / 1024);
    info_number(t, "expired_keys", c.expired);
    info_number(t, "evicted_keys", c.evicted);
    info_number(t, "pubsub_channels", 0);
    info_number(t, "pubsub_patterns", 0);
    info_number(t, "latest_fork_usec", 0);
    info_number(t, "total_forks", 0);
    info_number(t, "loop_turns", s->turns.count);
    info_number(t, "loop_turn_p99_usec", metric_hist_quantile(&s->turns, 0.99));
    info_number(t, "loop_turn_max_usec", s->turns.max_us);
}

static void info_replication(struct text *t, struct server *s)
{
    text_add(t,
             "role:master\r\nconnected_slaves:0\r\nmaster_failover_state:no-failover\r\n"
             "master_replid:%s\r\nmaster_replid2:%040d\r\n",
             s->run_id, 0);
    info_number(t, "master_repl_offset", store_applied_index(s->store));
    text_add(t, "second_repl_offset:-1\r\nrepl_backlog_active:0\r\nrepl_backlog_size:0\r\n"
                "repl_backlog_first_byte_offset:0\r\nrepl_backlog_histlen:0\r\n");
}

static void add_cpu(struct text *t, const char *suffix, int who)
{
    struct rusage u;

    if (getrusage(who, &u) != 0)
        memset(&u, 0, sizeof(u));
    text_add(t, "used_cpu_sys%s:%ld.%06ld\r\nused_cpu_user%s:%ld.%06ld\r\n", suffix,
             (long)u.ru_stime.tv_sec, (long)u.ru_stime.tv_usec, suffix, (long)u.ru_utime.tv_sec,
             (long)u.ru_utime.tv_usec);
}

static void info_cpu(struct text *t, struct server *s)
{
    (void)s;
    add_cpu(t, "", RUSAGE_SELF);
    add_cpu(t, "_children", RUSAGE_CHILDREN);
    add_cpu(t, "_main_thread", RUSAGE_THREAD);
}

static void info_modules(struct text *t, struct server *s)
{
    (void)t; /* there are none */
    (void)s;
}

static void info_commandstats(struct text *t, struct server *s)
{
    const struct command *c;

    (void)s;
    for (size_t i = 0; (c = stats_command_at(i)) != NULL; i++) {
        const struct command_stats *st = stats_of(c);

        if (st->calls == 0 && st->rejected == 0)
            continue;
        text_add(t,
                 "cmdstat_%s:calls=%" PRIu64 ",usec=%" PRIu64 ",usec_per_call=%.2f"
                 ",rejected_calls=%" PRIu64 ",failed_calls=%" PRIu64 "\r\n",
                 c->name, st->calls, st->time.sum_us,
                 st->calls > 0 ? (double)st->time.sum_us / (double)st->calls : 0.0, st->rejected,
                 st->failed);
    }
}

static void info_errorstats(struct text *t, struct server *s)
{
    const struct error_stats *e;

    (void)s;
    for (size_t i = 0; (e = stats_error_at(i)) != NULL; i++)
        text_add(t, "errorstat_%s:count=%" PRIu64 "\r\n", e->prefix, e->count);
}

static void info_latencystats(struct text *t, struct server *s)
{
    const struct command *c;

    (void)s;
    for (size_t i = 0; (c = stats_command_at(i)) != NULL; i++) {
        const struct metric_hist *h = &stats_of(c)->time;

        if (h->count > 0)
            text_add(t,
                     "latency_percentiles_usec_%s:p50=%" PRIu64 ".000,p99=%" PRIu64
                     ".000,p99.9=%" PRIu64 ".000\r\n",
                     c->name, metric_hist_quantile(h, 0.5), metric_hist_quantile(h, 0.99),
                     metric_hist_quantile(h, 0.999));
    }
}

static void info_cluster(struct text *t, struct server *s)
{
    (void)s;
    info_number(t, "cluster_enabled", 0);
}

static void info_keyspace(struct text *t, struct server *s)
{
    struct store_counts c;

    store_get_counts(s->store, &c);
    if (c.keys > 0)
        text_add(t, "db0:keys=%" PRIu64 ",expires=%" PRIu64 ",avg_ttl=0\r\n", c.keys, c.expires);
}

/* In the order of the reply. */
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
    {"cpu", "CPU", info_cpu, true},
    {"kvcache", "Kvcache", info_kvcache, true},
    {"raft", "Raft", info_raft, true},
    {"storage", "Storage", info_storage, true},
    {"modules", "Modules", info_modules, true},
    {"commandstats", "Commandstats", info_commandstats, false},
    {"errorstats", "Errorstats", info_errorstats, true},
    {"latencystats", "Latencystats", info_latencystats, false},
    {"cluster", "Cluster", info_cluster, true},
    {"keyspace", "Keyspace", info_keyspace, true},
};

static bool wanted(const struct request *rq, size_t i)
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

    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        if (!wanted(rq, i))
            continue;
        text_add(&t, "%s# %s\r\n", t.len > 0 ? "\r\n" : "", sections[i].title);
        sections[i].add(&t, rq->server);
    }
    text_reply(&t, rq);
}

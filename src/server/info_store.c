/* SPDX-License-Identifier: MIT */
#include <inttypes.h>

#include "server/info.h"

void info_kvcache(struct text *t, struct server *s)
{
    struct stream_stats streams;
    struct tier_stats tier;
    struct store_counts c;

    tier_get_stats(s->tier, &tier);
    streams_get_stats(s->streams, &streams);
    store_get_counts(s->store, &c);
    info_metrics(t, s, "kvcache");
    info_number(t, "ram_items", tier.items);
    info_number(t, "ram_bytes", tier.bytes);
    info_number(t, "ram_hits", tier.hits);
    info_number(t, "ram_misses", tier.misses);
    info_number(t, "disk_loads", tier.loads + streams.opened);
    info_number(t, "disk_load_bytes", tier.load_bytes + streams.bytes);
    info_number(t, "disk_load_errors", tier.load_errors + streams.errors);
    info_number(t, "disk_loads_waiting", streams.waiting);
    info_number(t, "streams", streams.open);
    info_number(t, "streams_opened", streams.opened);
    info_number(t, "stream_groups_read", streams.groups);
    info_number(t, "streams_moved", streams.moved);
    info_number(t, "leases", lease_count(store_lease(s->store), clock_now_ms(&s->clock)));
    info_number(t, "value_bytes_max", s->value_max);
    info_number(t, "corrupt_records", c.corrupt);
}

static const char *role_name(enum log_role role)
{
    switch (role) {
    case LOG_ROLE_STARTING:
        return "starting";
    case LOG_ROLE_FOLLOWER:
        return "follower";
    case LOG_ROLE_LEADER:
        return "leader";
    case LOG_ROLE_STOPPED:
        return "stopped";
    }
    return "unknown";
}

void info_raft(struct text *t, struct server *s)
{
    struct log_stats l;
    struct write_stats w;

    log_stats(s->log, &l);
    write_get_stats(s->write, &w);
    text_add(t, "raft_enabled:%d\r\nraft_node:%" PRIu32 "\r\nraft_role:%s\r\n", s->config->raft,
             s->datadir->node, role_name(l.role));
    info_number(t, "raft_term", l.term);
    info_number(t, "raft_last_index", l.last_index);
    info_number(t, "raft_commit_index", l.commit_index);
    info_number(t, "raft_applied_index", store_applied_index(s->store));
    info_number(t, "raft_durable_index", store_durable_index(s->store));
    info_number(t, "raft_snapshot_index", l.snapshot_index);
    info_number(t, "raft_snapshots", l.snapshots);
    info_number(t, "raft_snapshot_failures", l.snapshot_failures);
    info_number(t, "raft_bytes_since_snapshot", l.bytes_since_snapshot);
    info_number(t, "raft_groups_since_snapshot", l.groups_since_snapshot);
    info_number(t, "raft_untaken_bytes", l.untaken_bytes);
    info_number(t, "raft_disk_bytes", l.disk_bytes);
    info_number(t, "write_groups", w.groups);
    info_number(t, "write_commands", w.units);
    info_number(t, "write_bytes", w.bytes);
    info_number(t, "write_groups_in_flight", w.in_flight);
    info_number(t, "write_waiting", w.waiting);
    info_number(t, "write_failed", w.failed);
}

static void add_volumes(struct text *t, struct server *s)
{
    struct volumes_stats v;

    volumes_get_stats(store_volumes(s->store), &v);
    info_number(t, "volumes", v.count);
    info_number(t, "volumes_free", v.free);
    info_number(t, "volumes_open", v.open);
    info_number(t, "volumes_sealed", v.sealed);
    info_number(t, "volumes_empty", v.empty);
    info_number(t, "volumes_failed", v.failed);
    info_number(t, "volumes_formatting", v.formatting);
    info_number(t, "volumes_format_errors", v.format_errors);
    info_number(t, "volumes_recycled", v.recycled);
    info_number(t, "volumes_pinned", v.pinned);
    info_number(t, "volume_capacity_bytes", v.capacity_bytes);
    info_number(t, "volume_live_bytes", v.live_bytes);
    info_number(t, "volume_live_records", v.live_records);
}

static void add_index(struct text *t, struct server *s)
{
    struct index_stats ix;

    store_get_index_stats(s->store, &ix);
    info_number(t, "index_file_bytes", ix.file_bytes);
    info_number(t, "index_used_bytes", ix.used_bytes);
    info_number(t, "index_max_bytes", (uint64_t)s->config->max_index_bytes);
    info_number(t, "index_keys", ix.keys);
    info_number(t, "index_expires", ix.expires);
    info_number(t, "index_depth", ix.depth);
    info_number(t, "index_free_pages", ix.free_pages);
}

void info_storage(struct text *t, struct server *s)
{
    struct store_counts c;
    struct stage_stats g;
    uint64_t total = 0, available = 0, done, whole;
    bool backup = store_backup_progress(s->store, &done, &whole);

    store_get_counts(s->store, &c);
    stage_get_stats(store_stage(s->store), &g);
    datadir_space(s->datadir->path, &total, &available);
    text_add(t, "data_dir:%s\r\n", s->datadir->path);
    info_number(t, "disk_total_bytes", total);
    info_number(t, "disk_available_bytes", available);
    info_number(t, "max_store_bytes", (uint64_t)s->config->max_store_bytes);
    info_number(t, "logical_bytes", c.bytes);
    add_volumes(t, s);
    add_index(t, s);
    info_number(t, "moved_records", c.moved);
    info_number(t, "moved_bytes", c.moved_bytes);
    info_number(t, "staged_payloads", g.payloads);
    info_number(t, "staged_bytes", g.bytes);
    info_number(t, "stage_jobs", g.jobs);
    info_number(t, "stage_failures", g.failures);
    info_number(t, "stage_queued", g.queued);
    info_number(t, "stage_queued_bytes", g.queued_bytes);
    info_number(t, "table_keys", c.table_keys);
    info_number(t, "table_bytes", c.table_bytes);
    info_number(t, "checkpoints", c.checkpoints);
    info_number(t, "checkpoint_failures", c.checkpoint_failures);
    info_number(t, "checkpoint_last_us", c.checkpoint_last_us);
    info_number(t, "checkpoint_running", store_checkpoint_running(s->store));
    info_number(t, "backup_in_progress", backup);
    info_number(t, "backup_done_bytes", backup ? done : 0);
    info_number(t, "backup_total_bytes", backup ? whole : 0);
}

/* SPDX-License-Identifier: MIT */
/* sldmkv-server: arguments, sizes chosen from the machine, signals, the object graph.
 *
 *     sldmkv-server [conf-file] [--directive value …]
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/logger.h"
#include "server/descriptors.h"
#include "server/server.h"
#include "server/version.h"

#define MIB ((int64_t)1 << 20)
#define GIB ((int64_t)1 << 30)

static int64_t clamp(int64_t v, int64_t min, int64_t max)
{
    return v < min ? min : v > max ? max : v;
}

static void choose(struct config *c, const char *name, int64_t current, int64_t value,
                   const char *from)
{
    if (current != 0)
        return;
    config_put_number(c, config_find(name, strlen(name)), value);
    LOG_NOTICE("size chosen directive=%s bytes=%" PRId64 " from=\"%s\"", name, value, from);
}

/* Bytes of our own files: they are not free any more, but they are ours to use. */
static int64_t own_bytes(const char *dir)
{
    DIR *d = opendir(dir);
    int64_t sum = 0;

    if (d == NULL)
        return 0;
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        struct stat st;

        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            sum += (int64_t)st.st_blocks * 512;
    }
    closedir(d);
    return sum;
}

/* Sizes that were left at 0. Half of the disk and a quarter of the memory: the store is seldom
 * alone on its machine, and both can be raised. */
static int choose_sizes(struct config *c, char *detail)
{
    int64_t memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGE_SIZE);
    uint64_t total, available;
    int64_t disk;

    if (datadir_space(c->data_dir, &total, &available) != 0) {
        snprintf(detail, LOG_DETAIL_MAX, "cannot read the free space of data-dir '%s'",
                 c->data_dir);
        return ERR_IO;
    }
    disk = ((int64_t)available + own_bytes(c->data_dir)) / 2;
    choose(c, "max-memory-bytes", c->max_memory_bytes, clamp(memory / 4, 256 * MIB, 4 * GIB),
           "a quarter of memory, at most 4 GiB");
    choose(c, "max-store-bytes", c->max_store_bytes, clamp(disk, 512 * MIB, INT64_MAX),
           "half of the free disk");
    choose(c, "volume-size", c->volume_size,
           clamp(c->max_store_bytes / 32, 64 * MIB, 2 * GIB) & ~(MIB - 1), "max-store-bytes / 32");
    choose(c, "max-index-bytes", c->max_index_bytes,
           clamp(c->max_store_bytes / 16, 256 * MIB, INT64_MAX), "max-store-bytes / 16");
    if (c->max_memory_bytes < 64 * MIB || c->volume_size < 16 * MIB ||
        c->max_store_bytes / c->volume_size < 8) {
        snprintf(detail, LOG_DETAIL_MAX,
                 "sizes do not fit together: max-memory-bytes must be at least 64mb, volume-size "
                 "at least 16mb, and max-store-bytes at least 8 x volume-size");
        return ERR_INVAL;
    }
    return 0;
}

static void set_signals(void)
{
    struct sigaction a = {.sa_handler = server_signal, .sa_flags = SA_RESTART};

    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGHUP, &a, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

static int serve(struct config *config, const char *conf, const char *executable, char *detail)
{
    struct server_options o = {config, conf, executable, NULL, NULL};
    struct datadir dir;
    struct server *s = NULL;
    int err =
        datadir_open(config->data_dir, (uint32_t)config->server_id, config->raft, &dir, detail);

    if (err != 0)
        return err;
    o.datadir = &dir;
    err = choose_sizes(config, detail);
    if (err == 0)
        err = descriptors_arrange(config, detail);
    if (err == 0) {
        set_signals();
        err = server_new(&o, &s, detail);
    }
    if (err == 0)
        err = server_listen(s, detail);
    if (err == 0)
        err = server_start(s, detail);
    if (err == 0)
        err = server_run(s, detail);
    server_free(s);
    datadir_close(&dir);
    return err;
}

static void usage(FILE *out)
{
    fprintf(out, "Usage: sldmkv-server [conf-file] [--directive value ...]\n"
                 "       sldmkv-server --version | --help\n\n"
                 "Every line of the conf file is also a flag; conf/sldmkv.conf describes them "
                 "all.\nExample: sldmkv-server --port 50051 --data-dir ./data\n");
}

int main(int argc, char **argv)
{
    char detail[LOG_DETAIL_MAX] = "";
    char conf[4096] = "";
    struct config config;
    int err;

    if (argc == 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-v") == 0)) {
        printf("sldmkv-server %s\n", SERVER_VERSION);
        return 0;
    }
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        usage(stdout);
        return 0;
    }
    config_init(&config);
    err = config_load_args(&config, argc - 1, argv + 1, detail);
    if (err == 0)
        err = config_check(&config, detail);
    if (err == 0) {
        logger_set_level((enum logger_level)config.loglevel);
        if (logger_open(config.logfile) != 0) {
            snprintf(detail, sizeof(detail), "cannot open logfile '%.400s'", config.logfile);
            err = ERR_ACCESS;
        }
    }
    if (err == 0 && argc > 1 && strncmp(argv[1], "--", 2) != 0 && realpath(argv[1], conf) == NULL)
        conf[0] = '\0';
    if (err == 0) {
        LOG_NOTICE("sldmkv-server version=%s pid=%d data-dir=%s", SERVER_VERSION, (int)getpid(),
                   config.data_dir);
        err = serve(&config, conf, argv[0], detail);
    }
    if (err != 0 && detail[0] != '\0')
        fprintf(stderr, "sldmkv-server: %s\n", detail);
    config_fini(&config);
    return err == 0 ? 0 : 1;
}

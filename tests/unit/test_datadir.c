/* SPDX-License-Identifier: MIT */
#include "store/datadir.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/err.h"
#include "test.h"
#include "tmpdir.h"

static char detail[DATADIR_DETAIL_MAX];

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[PATH_MAX];
    FILE *f = fopen(tmpdir_path(path, dir, name), "w");

    CHECK(f != NULL);
    fputs(text, f);
    fclose(f);
}

static size_t read_file(const char *dir, const char *name, char *out, size_t size)
{
    char path[PATH_MAX];
    FILE *f = fopen(tmpdir_path(path, dir, name), "r");
    size_t n;

    CHECK(f != NULL);
    n = fread(out, 1, size - 1, f);
    out[n] = '\0';
    fclose(f);
    return n;
}

TEST(new_and_again)
{
    char path[PATH_MAX];
    struct datadir d, e;
    struct stat st;

    tmpdir_path(path, tmpdir(), "data");
    CHECK_EQ_INT(datadir_open(path, 1, true, &d, detail), 0);
    CHECK(d.created);
    CHECK_EQ_INT(stat(path, &st), 0);
    CHECK_EQ_INT(st.st_mode & 0777, 0700);
    datadir_close(&d);
    CHECK_EQ_INT(datadir_open(path, 1, true, &e, detail), 0);
    CHECK(!e.created);
    CHECK_EQ_MEM(e.uuid, d.uuid, 16);
    CHECK_EQ_U64(e.log_base, 0);
    CHECK_EQ_STR(e.path, path);
    datadir_close(&e);
    datadir_close(&e);
}

TEST(golden_format)
{
    static const char golden[] = "format 1\n"
                                 "store 000102030405060708090a0b0c0d0eff\n"
                                 "node 7\n"
                                 "log none\n"
                                 "log-base 18446744073709551615\n"
                                 "check ";
    const char *dir = tmpdir();
    struct datadir d = {.node = 7, .log_base = UINT64_MAX}, back;
    char text[512];

    for (int i = 0; i < 15; i++)
        d.uuid[i] = (uint8_t)i;
    d.uuid[15] = 0xff;
    CHECK_EQ_INT(datadir_write_format(dir, &d), 0);
    CHECK_EQ_INT(read_file(dir, "FORMAT", text, sizeof(text)), sizeof(golden) - 1 + 17);
    CHECK_EQ_MEM(text, golden, sizeof(golden) - 1);
    CHECK_EQ_INT(datadir_read_format(dir, &back, detail), 0);
    CHECK_EQ_MEM(back.uuid, d.uuid, 16);
    CHECK_EQ_INT(back.node, 7);
    CHECK(!back.raft);
    CHECK_EQ_U64(back.log_base, UINT64_MAX);
    /* The file of format 1 as it is on disks out there. */
    write_file(dir, "FORMAT",
               "format 1\nstore 000102030405060708090a0b0c0d0eff\nnode 7\nlog raft\nlog-base 0\n"
               "check 2bfeb4e91353be68\n");
    CHECK_EQ_INT(datadir_read_format(dir, &back, detail), 0);
    CHECK(back.raft);
}

TEST(second_process_is_refused)
{
    const char *dir = tmpdir();
    struct datadir d, e;
    char pid[64];

    CHECK_EQ_INT(datadir_open(dir, 1, true, &d, detail), 0);
    CHECK_EQ_INT(datadir_open(dir, 1, true, &e, detail), ERR_LOCKED);
    snprintf(pid, sizeof(pid), "pid %ld", (long)getpid());
    CHECK(strstr(detail, pid) != NULL);
    CHECK(strstr(detail, dir) != NULL);
    datadir_close(&d);
    CHECK_EQ_INT(datadir_open(dir, 1, true, &e, detail), 0);
    datadir_close(&e);
}

TEST(other_node_or_log_is_refused)
{
    const char *dir = tmpdir();
    struct datadir d;

    CHECK_EQ_INT(datadir_open(dir, 3, true, &d, detail), 0);
    datadir_close(&d);
    CHECK_EQ_INT(datadir_open(dir, 4, true, &d, detail), ERR_INVAL);
    CHECK(strstr(detail, "set server-id 3") != NULL);
    CHECK_EQ_INT(datadir_open(dir, 3, false, &d, detail), ERR_INVAL);
    CHECK(strstr(detail, "raft yes") != NULL);
    CHECK(strstr(detail, "convert") != NULL);
    /* A refusal leaves no lock behind. */
    CHECK_EQ_INT(datadir_open(dir, 3, true, &d, detail), 0);
    datadir_close(&d);
}

TEST(damaged_format_is_refused)
{
    const char *dir = tmpdir();
    struct datadir d;
    char text[512];
    size_t n;

    CHECK_EQ_INT(datadir_open(dir, 1, true, &d, detail), 0);
    datadir_close(&d);
    n = read_file(dir, "FORMAT", text, sizeof(text));
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        int err;

        text[i] = (char)(c ^ 1);
        write_file(dir, "FORMAT", text);
        err = datadir_open(dir, 1, true, &d, detail);
        CHECK(err == ERR_CORRUPT || err == ERR_VERSION); /* "format 0" … is bit 0 of '1' */
        CHECK(strstr(detail, "FORMAT") != NULL);
        text[i] = c;
    }
    for (size_t len = 0; len < n; len++) {
        char cut[512];

        memcpy(cut, text, len);
        cut[len] = '\0';
        write_file(dir, "FORMAT", cut);
        CHECK_EQ_INT(datadir_open(dir, 1, true, &d, detail), ERR_CORRUPT);
    }
    write_file(dir, "FORMAT", text);
    CHECK_EQ_INT(datadir_open(dir, 1, true, &d, detail), 0);
    datadir_close(&d);
}

TEST(newer_format_is_told_from_damage)
{
    const char *dir = tmpdir();
    struct datadir d;

    write_file(dir, "FORMAT", "format 2\nsomething else\n");
    CHECK_EQ_INT(datadir_open(dir, 1, true, &d, detail), ERR_VERSION);
    CHECK(strstr(detail, "format 2") != NULL);
}

TEST(lost_format_is_not_a_new_store)
{
    static const char *const names[] = {"index.mdb", "vol-0001.mdb", "raft"};
    struct datadir d;

    for (size_t i = 0; i < 3; i++) {
        const char *dir = tmpdir();

        write_file(dir, names[i], "x");
        CHECK_EQ_INT(datadir_open(dir, 1, true, &d, detail), ERR_CORRUPT);
        CHECK(strstr(detail, names[i]) != NULL);
    }
}

TEST(torn_creation_goes_on)
{
    const char *dir = tmpdir();
    struct datadir d;

    write_file(dir, "FORMAT.new", "form");
    write_file(dir, "sldmkv.log", "a log kept here");
    CHECK_EQ_INT(datadir_open(dir, 1, true, &d, detail), 0);
    CHECK(d.created);
    datadir_close(&d);
}

TEST(unusable_paths)
{
    const char *dir = tmpdir();
    char path[PATH_MAX], *longer = malloc(5000);
    struct datadir d;

    CHECK_EQ_INT(datadir_open(tmpdir_path(path, dir, "a/b"), 1, true, &d, detail), ERR_NOTFOUND);
    CHECK(strstr(detail, "a/b") != NULL);
    write_file(dir, "file", "");
    CHECK_EQ_INT(datadir_open(tmpdir_path(path, dir, "file"), 1, true, &d, detail), ERR_INVAL);
    CHECK_EQ_INT(datadir_open("", 1, true, &d, detail), ERR_INVAL);
    memset(longer, 'x', 4999);
    longer[4999] = '\0';
    CHECK_EQ_INT(datadir_open(longer, 1, true, &d, detail), ERR_INVAL);
    free(longer);
    CHECK_EQ_INT(datadir_open("/proc/sldmkv", 1, true, &d, detail), ERR_NOTFOUND);
}

/* In a child, because the test may run as root, whom modes do not stop. */
TEST(directory_without_permission)
{
    const char *dir = tmpdir();
    pid_t child;
    int status;

    CHECK_EQ_INT(chmod(dir, 0500), 0);
    CHECK_EQ_INT(geteuid() == 0 ? chown(dir, 65534, 65534) : 0, 0);
    child = fork();
    if (child == 0) {
        struct datadir d;

        if (geteuid() == 0 && (chdir(dir) != 0 || setgid(65534) != 0 || setuid(65534) != 0))
            _exit(2);
        _exit(datadir_open(geteuid() == 65534 ? "." : dir, 1, true, &d, detail) == ERR_ACCESS ? 0
                                                                                              : 1);
    }
    CHECK_EQ_INT(waitpid(child, &status, 0), child);
    CHECK_EQ_INT(status, 0);
    CHECK_EQ_INT(chmod(dir, 0700), 0);
}

TEST(space)
{
    uint64_t total = 0, available = 0;

    CHECK_EQ_INT(datadir_space(tmpdir(), &total, &available), 0);
    CHECK_GT_U64(total, 0);
    CHECK_LE_U64(available, total);
    CHECK_EQ_INT(datadir_space("/nonexistent", &total, &available), ERR_NOTFOUND);
}

TEST_MAIN

/* SPDX-License-Identifier: MIT */
#include "base/logger.h"
#include "test.h"
#include "tmpdir.h"

#include <fcntl.h>

#include "base/err.h"

static char path[PATH_MAX];

static const char *content(void)
{
    static char text[65536];
    int fd = open(path, O_RDONLY);
    ssize_t n;

    CHECK_GE_INT(fd, 0);
    n = read(fd, text, sizeof(text) - 1);
    CHECK_GE_INT(n, 0);
    text[n] = '\0';
    close(fd);
    return text;
}

static unsigned lines(const char *text)
{
    unsigned n = 0;

    for (; *text != '\0'; text++)
        n += *text == '\n';
    return n;
}

static void open_log(void)
{
    tmpdir_path(path, tmpdir(), "log");
    CHECK_EQ_INT(logger_open(path), 0);
    logger_set_level(LOGGER_NOTICE);
}

TEST(a_line)
{
    char head[32];

    open_log();
    LOG_NOTICE("server started port=%d", 6379);
    snprintf(head, sizeof(head), "%d:M ", (int)getpid());
    CHECK_EQ_MEM(content(), head, strlen(head));
    CHECK(strstr(content(), " * server started port=6379\n") != NULL);
    CHECK_EQ_INT(lines(content()), 1);
}

TEST(levels)
{
    open_log();
    LOG_DEBUG("debug");
    LOG_VERBOSE("verbose");
    LOG_NOTICE("notice");
    LOG_WARNING("warning");
    CHECK_EQ_INT(lines(content()), 2);
    CHECK(strstr(content(), "# warning\n") != NULL);
    logger_set_level(LOGGER_DEBUG);
    CHECK(logger_enabled(LOGGER_DEBUG));
    LOG_DEBUG("debug");
    CHECK(strstr(content(), ". debug\n") != NULL);
    logger_set_level(LOGGER_WARNING);
    LOG_NOTICE("again");
    CHECK_EQ_INT(lines(content()), 3);
}

/* A key or a client name cannot forge a second line. */
TEST(one_event_one_line)
{
    open_log();
    LOG_NOTICE("key=%s", "a\nb\r\x1b[31m\x7f");
    CHECK_EQ_INT(lines(content()), 1);
    CHECK(strstr(content(), "key=a b  [31m \n") != NULL);
}

TEST(long_lines_are_cut)
{
    static char text[3000];

    for (size_t len = LOGGER_LINE_MAX - 120; len < LOGGER_LINE_MAX + 20; len++) {
        const char *got;

        open_log();
        memset(text, 'x', len);
        text[len] = '\0';
        LOG_NOTICE("%s", text);
        got = content();
        CHECK_EQ_INT(lines(got), 1);
        CHECK_LE_U64(strlen(got), LOGGER_LINE_MAX);
        CHECK_EQ_INT(got[strlen(got) - 1], '\n');
        if (len >= LOGGER_LINE_MAX)
            CHECK(strstr(got, "x…\n") != NULL);
        else if (strstr(got, "…") == NULL)
            CHECK_EQ_MEM(got + strlen(got) - 1 - len, text, len);
        if (len % 20 == 0)
            CHECK_EQ_INT(logger_open(NULL), 0);
    }
}

TEST(reopening_after_a_rotation)
{
    char moved[PATH_MAX];

    open_log();
    LOG_NOTICE("one");
    snprintf(moved, sizeof(moved), "%.*s.1", PATH_MAX - 3, path);
    CHECK_EQ_INT(rename(path, moved), 0);
    LOG_NOTICE("two"); /* still into the moved file */
    CHECK_EQ_INT(logger_reopen(), 0);
    LOG_NOTICE("three");
    CHECK_EQ_INT(lines(content()), 1);
    CHECK(strstr(content(), "three") != NULL);
    CHECK_EQ_INT(rename(moved, path), 0);
    CHECK_EQ_INT(lines(content()), 2);
}

TEST(a_target_that_cannot_be_opened)
{
    char absent[PATH_MAX];
    static char endless[5000];

    open_log();
    snprintf(absent, sizeof(absent), "%.*s/x", PATH_MAX - 3, path);
    CHECK_LT_INT(logger_open(absent), 0);
    memset(endless, 'a', sizeof(endless) - 1);
    CHECK_EQ_INT(logger_open(endless), ERR_INVAL);
    LOG_NOTICE("still here");
    CHECK(strstr(content(), "still here") != NULL);
}

static void *chatter(void *arg)
{
    (void)arg;
    for (int i = 0; i < 200; i++)
        LOG_NOTICE("thread says the same thing");
    return NULL;
}

/* Lines never mix, and none is lost or misdirected while the file is opened again and again. */
TEST(threads)
{
    pthread_t t[3];
    const char *got;

    open_log();
    for (int i = 0; i < 3; i++)
        CHECK_EQ_INT(pthread_create(&t[i], NULL, chatter, NULL), 0);
    for (int i = 0; i < 50; i++)
        CHECK_EQ_INT(logger_reopen(), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    got = content();
    CHECK_EQ_INT(lines(got), 600);
    for (unsigned n = 0; *got != '\0'; n++) {
        const char *end = strchr(got, '\n');

        CHECK_EQ_MEM(end - 28, "* thread says the same thing", 28);
        got = end + 1;
    }
}

TEST(rate_limit)
{
    uint64_t last = 0;

    CHECK(logger_allow(&last, 3600000));
    for (int i = 0; i < 100; i++)
        CHECK(!logger_allow(&last, 3600000));
    CHECK(logger_allow(&last, 0));
    last -= 3600000;
    CHECK(logger_allow(&last, 3600000));
}

TEST_MAIN

/* SPDX-License-Identifier: MIT */
/* The main of a fuzz target when libFuzzer's is not there: in every `make test`.
 *
 * Feeds each file of tests/fuzz/corpus/x to the target fuzz_x, and then inputs made from those
 * files by small changes under a fixed seed: the same ones each time, so a failure comes again. It
 * keeps no coverage and finds what is near; `make fuzz` looks further. The input that ended the
 * process is left in $TMPDIR/fuzz_x.input. Prints TAP as the unit tests do.
 *
 *     fuzz_x [file…]      only these, as they are
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

enum { FILES_MAX = 1024, INPUT_MAX = 1 << 16, CHANGES_MAX = 6, SECONDS = 3, TIMEOUT_S = 300 };
enum { RUNS = 200000 }; /* at most: a sanitizer build is stopped by SECONDS */

struct file {
    char path[512];
    uint8_t *bytes;
    size_t len;
};

static struct file files[FILES_MAX];
static size_t nfiles;

static const uint8_t *current; /* input being run */
static size_t current_len;
static char failed_path[512];

__attribute__((weak)) void fuzz_thorough(const uint8_t *data, size_t size)
{
    (void)data;
    (void)size;
}

/* ---- when it ends badly ------------------------------------------------------------------- */

static void keep_input(void)
{
    int fd = open(failed_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, current, current_len) != (ssize_t)current_len)
        return;
    close(fd);
    if (write(2, "# input: ", 9) < 0 || write(2, failed_path, strlen(failed_path)) < 0 ||
        write(2, "\n", 1) < 0)
        return;
}

static void on_signal(int sig)
{
    keep_input();
    signal(sig, SIG_DFL);
    raise(sig);
}

/* A sanitizer ends the process without a signal, but calls this. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

static void watch(const char *name)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(failed_path, sizeof(failed_path), "%s/%s.input", tmp != NULL ? tmp : "/tmp", name);
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
    alarm(TIMEOUT_S);
    if (__sanitizer_set_death_callback != NULL)
        __sanitizer_set_death_callback(keep_input);
    else
        signal(SIGSEGV, on_signal);
}

static void run(const uint8_t *data, size_t len)
{
    current = data;
    current_len = len;
    LLVMFuzzerTestOneInput(data, len);
}

/* ---- corpus ------------------------------------------------------------------------------- */

static void load(const char *path)
{
    struct file *f = &files[nfiles++];
    FILE *in = fopen(path, "re");

    ASSERT(in != NULL && nfiles <= FILES_MAX);
    snprintf(f->path, sizeof(f->path), "%s", path);
    f->bytes = malloc(INPUT_MAX);
    f->len = fread(f->bytes, 1, INPUT_MAX, in);
    fclose(in);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

static void load_dir(const char *dir)
{
    DIR *d = opendir(dir);

    ASSERT(d != NULL);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        char path[512];

        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%.200s/%.255s", dir, e->d_name);
        load(path);
    }
    closedir(d);
    qsort(files, nfiles, sizeof(files[0]), by_path);
}

static void run_corpus(void)
{
    for (size_t i = 0; i < nfiles; i++) {
        uint8_t *copy = fuzz_copy(files[i].bytes, files[i].len);

        run(copy, files[i].len);
        fuzz_thorough(copy, files[i].len);
        free(copy);
    }
}

/* ---- inputs made from it ------------------------------------------------------------------ */

static uint64_t seed = 0x9e3779b97f4a7c15u;

static size_t below(size_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return n > 0 ? (size_t)(seed % n) : 0;
}

static void put_edge(uint8_t *at, size_t room)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0x7fff,
                                     0xffff,
                                     0x7fffffff,
                                     0xffffffff,
                                     1u << 31,
                                     INT64_MAX,
                                     UINT64_MAX,
                                     4096,
                                     1u << 20,
                                     16384,
                                     0x0a0d2431,
                                     0x0a0d2a31,
                                     1u << 16,
                                     UINT64_C(1) << 63};
    uint64_t v = edges[below(sizeof(edges) / sizeof(edges[0]))];
    size_t width = (size_t)1 << below(4);

    if (width <= room)
        memcpy(at, &v, width);
}

static size_t insert_of_another(uint8_t *out, size_t len, size_t at)
{
    const struct file *other = &files[below(nfiles)];
    size_t from = below(other->len), n = below(other->len - from + 1);

    if (len + n > INPUT_MAX)
        return len;
    memmove(out + at + n, out + at, len - at);
    memcpy(out + at, other->bytes + from, n);
    return len + n;
}

static size_t change(uint8_t *out, size_t len)
{
    size_t at = below(len), n;

    switch (below(7)) {
    case 0:
        if (len > 0)
            out[at] ^= (uint8_t)(1u << below(8));
        return len;
    case 1:
        if (len > 0)
            out[at] = (uint8_t)below(256);
        return len;
    case 2:
        put_edge(out + at, len - at);
        return len;
    case 3: /* cut out */
        n = below(len - at + 1);
        memmove(out + at, out + at + n, len - at - n);
        return len - n;
    case 4: /* cut off */
        return at;
    case 5: /* twice */
        n = below(len - at + 1);
        if (len + n > INPUT_MAX)
            return len;
        memmove(out + at + n, out + at, len - at);
        return len + n;
    default:
        return insert_of_another(out, len, at);
    }
}

static size_t run_changed(void)
{
    static uint8_t input[INPUT_MAX];
    time_t end = time(NULL) + SECONDS;
    size_t n = 0;

    for (; n < RUNS && time(NULL) < end; n++) {
        const struct file *f = &files[below(nfiles)];
        size_t len = f->len;
        uint8_t *copy;

        memcpy(input, f->bytes, len);
        for (size_t i = below(CHANGES_MAX) + 1; i > 0; i--)
            len = change(input, len);
        copy = fuzz_copy(input, len);
        run(copy, len);
        free(copy);
    }
    return n;
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    const char *name = slash != NULL ? slash + 1 : argv[0];
    char dir[256];

    watch(name);
    for (int i = 1; i < argc; i++)
        load(argv[i]);
    if (argc == 1) {
        snprintf(dir, sizeof(dir), "tests/fuzz/corpus/%.100s", name + strlen("fuzz_"));
        load_dir(dir);
        ASSERT(nfiles > 0);
    }
    run_corpus();
    printf("ok 1 - %zu corpus files\n", nfiles);
    if (argc == 1)
        printf("ok 2 - %zu changed ones\n", run_changed());
    for (size_t i = 0; i < nfiles; i++)
        free(files[i].bytes);
    return 0;
}

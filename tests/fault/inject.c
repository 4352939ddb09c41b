/* SPDX-License-Identifier: MIT */
/* inject: makes one call of the C library fail on a file of the server's, from outside it.
 *
 * Purpose   the fault tests; loaded into the release server by LD_PRELOAD, so what is tested is
 *           what is shipped, and the calls of liblmdb, libraft and libuv are met too
 * Use       SLDMKV_INJECT="function:word:n:errno[:keep]"   the n-th call of function on a path that
 *           contains word (word$: ends with it) fails with errno (a number; 0: a short write);
 *           keep: and every later one.
 *           SLDMKV_INJECT_WHEN=file   calls count only while that file exists
 * Functions open (openat too), pread (preadv), pwrite, pwritev, write, writev, fsync, fdatasync,
 *           fallocate, ftruncate, rename, linkat, msync, io_submit, io_getevents
 *           SLDMKV_NO_MEMORY=bytes   while the file SLDMKV_INJECT_WHEN exists, there is no memory
 *           for a piece of that size or a larger one (malloc, calloc, realloc, mmap of no file)
 * Tells     the first failure on stderr, which is the server's log: "inject: …"
 * Threads   any
 *
 * A call is matched by the path it was opened with, as the kernel tells it (/proc/self/fd), so a
 * file made with O_TMPFILE is known by its folder. For msync the mapping tells it, for a completion
 * of asynchronous I/O the request. What is called here is none of the functions replaced, so
 * nothing counts its own work.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define SHORT_WRITE 0
#define PASS (-1)

static struct {
    char function[16];
    char word[64];
    unsigned n;
    int error;
    bool keep;
    const char *when;
} fault;
static atomic_uint calls;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
    const char *text = getenv("SLDMKV_INJECT");

    if (text == NULL)
        return;
    if (sscanf(text, "%15[^:]:%63[^:]:%u:%d", fault.function, fault.word, &fault.n, &fault.error) !=
        4) {
        fprintf(stderr, "SLDMKV_INJECT: cannot read \"%s\"\n", text);
        _exit(2);
    }
    fault.keep = strstr(text, ":keep") != NULL;
    fault.when = getenv("SLDMKV_INJECT_WHEN");
}

static bool chosen(const char *function)
{
    pthread_once(&once, load);
    return strcmp(fault.function, function) == 0 &&
           (fault.when == NULL || syscall(SYS_faccessat, AT_FDCWD, fault.when, F_OK, 0) == 0);
}

/* "word" is anywhere in the path, "word$" ends it. */
static bool matches(const char *path)
{
    size_t len = strlen(fault.word), at = strlen(path);

    if (len == 0 || fault.word[len - 1] != '$')
        return strstr(path, fault.word) != NULL;
    return at >= len - 1 && strncmp(path + at - (len - 1), fault.word, len - 1) == 0;
}

/* What this call is to do: PASS, SHORT_WRITE or an errno. The function has been chosen. */
static int verdict(const char *path)
{
    char text[512];
    unsigned n;
    int len;

    if (!matches(path))
        return PASS;
    n = atomic_fetch_add(&calls, 1) + 1;
    if (n != fault.n && !(fault.keep && n > fault.n))
        return PASS;
    if (n == fault.n) {
        len = snprintf(text, sizeof(text), "inject: %s path=%s call=%u errno=%d%s\n",
                       fault.function, path, n, fault.error, fault.keep ? " from now on" : "");
        syscall(SYS_write, STDERR_FILENO, text, (size_t)len);
    }
    return fault.error;
}

static int at_fd(const char *function, int fd)
{
    char link[64], path[512];
    ssize_t len;

    if (!chosen(function))
        return PASS;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, path, sizeof(path) - 1);
    if (len <= 0 || path[0] != '/')
        return PASS;
    path[len] = '\0';
    return verdict(path);
}

static int at_path(const char *function, const char *path)
{
    return chosen(function) ? verdict(path) : PASS;
}

static int at_mapping(const void *addr)
{
    uintptr_t from, to, at = (uintptr_t)addr;
    char line[1024];
    int result = PASS;
    FILE *maps;

    if (!chosen("msync"))
        return PASS;
    maps = fopen("/proc/self/maps", "re");
    while (result == PASS && maps != NULL && fgets(line, sizeof(line), maps) != NULL)
        if (sscanf(line, "%lx-%lx", &from, &to) == 2 && from <= at && at < to)
            result = verdict(line);
    if (maps != NULL)
        fclose(maps);
    return result;
}

/* --- the wrappers: REPLACE for calls that only fail, SHORTEN for writes -------------------- */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CALL(name, ...)                                                                            \
    static __typeof__(&name) real;                                                                 \
    if (real == NULL)                                                                              \
        real = REAL(name);                                                                         \
    return real(__VA_ARGS__)

#define REPLACE(result, name, check, parameters, ...)                                              \
    result name parameters                                                                         \
    {                                                                                              \
        int error = check;                                                                         \
                                                                                                   \
        if (error > 0) {                                                                           \
            errno = error;                                                                         \
            return -1;                                                                             \
        }                                                                                          \
        CALL(name, __VA_ARGS__);                                                                   \
    }

#define SHORTEN(name, function, half, parameters, ...)                                             \
    ssize_t name parameters                                                                        \
    {                                                                                              \
        int error = at_fd(function, fd);                                                           \
                                                                                                   \
        if (error > 0) {                                                                           \
            errno = error;                                                                         \
            return -1;                                                                             \
        }                                                                                          \
        if (error == SHORT_WRITE)                                                                  \
            half;                                                                                  \
        CALL(name, __VA_ARGS__);                                                                   \
    }

SHORTEN(pwrite, "pwrite", n /= 2, (int fd, const void *p, size_t n, off_t at), fd, p, n, at)
SHORTEN(pwrite64, "pwrite", n /= 2, (int fd, const void *p, size_t n, off64_t at), fd, p, n, at)
SHORTEN(write, "write", n = (n + 1) / 2, (int fd, const void *p, size_t n), fd, p, n)
/* Half of the vectors: with one of them, the write is whole. */
SHORTEN(writev, "writev", n = (n + 1) / 2, (int fd, const struct iovec *v, int n), fd, v, n)
SHORTEN(pwritev, "pwritev", n = (n + 1) / 2, (int fd, const struct iovec *v, int n, off_t at), fd,
        v, n, at)
SHORTEN(pwritev64, "pwritev", n = (n + 1) / 2, (int fd, const struct iovec *v, int n, off64_t at),
        fd, v, n, at)

REPLACE(ssize_t, pread, at_fd("pread", fd), (int fd, void *p, size_t n, off_t at), fd, p, n, at)
REPLACE(ssize_t, pread64, at_fd("pread", fd), (int fd, void *p, size_t n, off64_t at), fd, p, n, at)
REPLACE(ssize_t, preadv, at_fd("pread", fd), (int fd, const struct iovec *v, int n, off_t at), fd,
        v, n, at)
REPLACE(ssize_t, preadv64, at_fd("pread", fd), (int fd, const struct iovec *v, int n, off64_t at),
        fd, v, n, at)
REPLACE(int, fsync, at_fd("fsync", fd), (int fd), fd)
REPLACE(int, fdatasync, at_fd("fdatasync", fd), (int fd), fd)
REPLACE(int, ftruncate, at_fd("ftruncate", fd), (int fd, off_t n), fd, n)
REPLACE(int, ftruncate64, at_fd("ftruncate", fd), (int fd, off64_t n), fd, n)
REPLACE(int, fallocate, at_fd("fallocate", fd), (int fd, int mode, off_t at, off_t n), fd, mode, at,
        n)
REPLACE(int, fallocate64, at_fd("fallocate", fd), (int fd, int mode, off64_t at, off64_t n), fd,
        mode, at, n)
REPLACE(int, rename, at_path("rename", from), (const char *from, const char *to), from, to)
REPLACE(int, linkat, at_path("linkat", to),
        (int from_dir, const char *from, int to_dir, const char *to, int flags), from_dir, from,
        to_dir, to, flags)
REPLACE(int, msync, at_mapping(addr), (void *addr, size_t n, int flags), addr, n, flags)

/* These return the error instead of setting errno. */
int posix_fallocate(int fd, off_t at, off_t n)
{
    int error = at_fd("fallocate", fd);

    if (error > 0)
        return error;
    CALL(posix_fallocate, fd, at, n);
}

int posix_fallocate64(int fd, off64_t at, off64_t n)
{
    int error = at_fd("fallocate", fd);

    if (error > 0)
        return error;
    CALL(posix_fallocate64, fd, at, n);
}

/* The mode is passed on whether it was given or not, as the C library does itself. */
#define OPEN(name, parameters, ...)                                                                \
    int name parameters                                                                            \
    {                                                                                              \
        int error = at_path("open", path);                                                         \
        mode_t mode;                                                                               \
        va_list ap;                                                                                \
                                                                                                   \
        va_start(ap, flags);                                                                       \
        mode = va_arg(ap, mode_t);                                                                 \
        va_end(ap);                                                                                \
        if (error > 0) {                                                                           \
            errno = error;                                                                         \
            return -1;                                                                             \
        }                                                                                          \
        CALL(name, __VA_ARGS__, flags, mode);                                                      \
    }

OPEN(open, (const char *path, int flags, ...), path)
OPEN(open64, (const char *path, int flags, ...), path)
OPEN(openat, (int dir, const char *path, int flags, ...), dir, path)
OPEN(openat64, (int dir, const char *path, int flags, ...), dir, path)

/* libraft's asynchronous I/O: the request names the file, at its begin and in its completion. */
static int at_request(const char *function, const struct iocb *request)
{
    return at_fd(function, (int)request->aio_fildes);
}

static void fail_completions(struct io_event *events, long n)
{
    for (long i = 0; i < n; i++) {
        const struct iocb *request = (const struct iocb *)(uintptr_t)events[i].obj;
        int error = at_request("io_getevents", request);

        if (error > 0)
            events[i].res = -error;
        else if (error == SHORT_WRITE)
            events[i].res /= 2;
    }
}

long syscall(long number, ...)
{
    static long (*real)(long, ...);
    long a[6], result;
    int error;
    va_list ap;

    if (real == NULL)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    va_start(ap, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    if (number == SYS_io_submit) {
        error = at_request("io_submit", *(struct iocb **)a[2]);
        if (error > 0) {
            errno = error;
            return -1;
        }
    }
    result = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (number == SYS_io_getevents && result > 0)
        fail_completions((struct io_event *)a[3], result);
    return result;
}

/* ---- memory ------------------------------------------------------------------------------- */

/* Nothing here may allocate: it is asked from within malloc. */
static bool no_memory(size_t size)
{
    const char *least = getenv("SLDMKV_NO_MEMORY"), *when = getenv("SLDMKV_INJECT_WHEN");

    if (least == NULL || when == NULL || size < strtoul(least, NULL, 10) ||
        syscall(SYS_faccessat, AT_FDCWD, when, F_OK, 0) != 0)
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    static void *(*real)(size_t);

    if (no_memory(size))
        return NULL;
    if (real == NULL)
        real = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    return real(size);
}

void *realloc(void *old, size_t size)
{
    static void *(*real)(void *, size_t);

    if (no_memory(size))
        return NULL;
    if (real == NULL)
        real = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "realloc");
    return real(old, size);
}

/* dlsym may call calloc itself, once: it takes nothing for it. */
void *calloc(size_t n, size_t size)
{
    static void *(*real)(size_t, size_t);
    static bool asking;

    if (asking || no_memory(n * size))
        return NULL;
    if (real == NULL) {
        asking = true;
        real = (void *(*)(size_t, size_t))dlsym(RTLD_NEXT, "calloc");
        asking = false;
    }
    return real(n, size);
}

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    static void *(*real)(void *, size_t, int, int, int, off_t);

    if (fd < 0 && no_memory(len))
        return MAP_FAILED;
    if (real == NULL)
        real = (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
    return real(addr, len, prot, flags, fd, offset);
}

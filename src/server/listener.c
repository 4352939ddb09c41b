/* SPDX-License-Identifier: MIT */
/* Listening sockets: TCP addresses of bind/port or listen, and a unix socket. A client beyond
 * maxclients or from outside under protected mode gets one error line and is closed, as in Redis.
 * Without descriptors left, accepting rests until a connection has closed, or a second has passed
 * (no busy loop); the last few are never given to clients, because without them the log cannot
 * write.
 */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/logger.h"
#include "server/conn_int.h"
#include "server/server.h"

#define ACCEPTS_PER_TURN 64
#define DESCRIPTORS_KEPT 32 /* of the log, a volume being made, a backup */

struct listener {
    struct listener *next;
    struct server *server;
    int fd;
    bool unix_socket;
    struct event *event;
};

static const char denied[] =
    "-DENIED Redis is running in protected mode because protected mode is enabled and no password "
    "is set for the default user. In this mode connections are only accepted from the loopback "
    "interface. If you want to connect from external computers, set 'requirepass', or set "
    "'protected-mode no' if the server is not reachable from outside.\r\n";
static const char full[] = "-ERR max number of clients reached\r\n";

static void turn_away(struct server *s, struct conn *c, int fd, const char *text)
{
    ssize_t n = send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);

    (void)n; /* they may have gone already */
    metric_add(&s->metrics, METRIC_REJECTED, 1);
    if (c != NULL)
        conn_close(c, "turned away");
    else
        close(fd);
}

/* The lowest free number is handed out, so a high one says that few are left. */
static bool is_kept(int fd)
{
    static uint64_t last_log;
    struct rlimit lim;

    if (getrlimit(RLIMIT_NOFILE, &lim) != 0 || (rlim_t)fd + DESCRIPTORS_KEPT < lim.rlim_cur)
        return false;
    if (logger_allow(&last_log, 10000))
        LOG_WARNING("no file descriptors left for clients: raise LimitNOFILE or lower maxclients");
    return true;
}

static void accepted(struct server *s, struct listener *l, int fd)
{
    struct conn *c;

    if (s->nconns >= (unsigned)s->config->maxclients || is_kept(fd)) {
        turn_away(s, NULL, fd, full);
        return;
    }
    c = conn_new(s, fd, l->unix_socket);
    if (c == NULL) {
        close(fd);
        return;
    }
    metric_add(&s->metrics, METRIC_CONNECTIONS, 1);
    if (s->config->protected_mode && s->config->requirepass[0] == '\0' && !c->local)
        turn_away(s, c, fd, denied);
}

static void set_accepting(struct server *s, bool on)
{
    s->paused_accept = !on;
    for (struct listener *l = s->listeners; l != NULL; l = l->next) {
        if (on)
            event_add(l->event, NULL);
        else
            event_del(l->event);
    }
}

static void on_accept(int lfd, short what, void *arg)
{
    struct listener *l = arg;
    static uint64_t last_log;

    (void)what;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            accepted(l->server, l, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            if (logger_allow(&last_log, 10000))
                LOG_WARNING("no file descriptors left for clients: raise LimitNOFILE or lower "
                            "maxclients");
            set_accepting(l->server, false);
        }
        if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

void listener_resume(struct server *s)
{
    if (s->paused_accept && !s->stop_requested && s->closed == NULL)
        set_accepting(s, true);
}

static int add_listener(struct server *s, int fd, bool unix_socket)
{
    struct listener *l = calloc(1, sizeof(*l));

    if (l == NULL)
        return ERR_NOMEM;
    l->server = s;
    l->fd = fd;
    l->unix_socket = unix_socket;
    l->event = event_new(s->base, fd, EV_READ | EV_PERSIST, on_accept, l);
    if (l->event == NULL) {
        free(l);
        return ERR_NOMEM;
    }
    event_add(l->event, NULL);
    l->next = s->listeners;
    s->listeners = l;
    return 0;
}

static int bind_one(struct server *s, const struct addrinfo *ai)
{
    int one = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 ||
        listen(fd, (int)s->config->tcp_backlog) != 0) {
        int saved = errno;

        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

static int open_tcp(struct server *s, const char *host, int64_t number, char *detail)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    char port[16];
    bool optional = host[0] == '-'; /* Redis: an address that may be absent */
    int opened = 0, err;

    host += optional;
    snprintf(port, sizeof(port), "%d", (int)number);
    err = getaddrinfo(strcmp(host, "*") == 0 ? NULL : host, port, &hints, &list);
    if (err != 0) {
        snprintf(detail, LOG_DETAIL_MAX, "cannot listen on '%s' port %s: %s", host, port,
                 gai_strerror(err));
        return optional ? 0 : ERR_INVAL;
    }
    for (const struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next) {
        int fd = bind_one(s, ai);

        if (fd >= 0 && add_listener(s, fd, false) == 0)
            opened++;
        else
            snprintf(detail, LOG_DETAIL_MAX, "cannot listen on '%s' port %s: %s", host, port,
                     strerror(errno));
    }
    freeaddrinfo(list);
    return opened > 0 || optional ? 0 : ERR_INVAL;
}

/* The file mode is in force before anyone can connect (CVE-2023-45145). */
static int open_unix(struct server *s, char *detail)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    const char *path = s->config->unixsocket;
    mode_t mode = (mode_t)strtoul(s->config->unixsocketperm, NULL, 8);
    mode_t old = umask(0777 & ~mode);
    int fd = -1;

    if (strlen(path) < sizeof(a.sun_path)) {
        strcpy(a.sun_path, path);
        unlink(path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    } else {
        errno = ENAMETOOLONG;
    }
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 ||
        listen(fd, (int)s->config->tcp_backlog) != 0) {
        snprintf(detail, LOG_DETAIL_MAX, "cannot listen on unixsocket '%s': %s", path,
                 strerror(errno));
        umask(old);
        if (fd >= 0)
            close(fd);
        return ERR_INVAL;
    }
    umask(old);
    return add_listener(s, fd, true);
}

int listener_open_all(struct server *s, char *detail)
{
    char words[4096], host[CONFIG_HOST_MAX], *save = NULL;
    int64_t port = s->config->port;
    int err = 0;

    if (s->config->unixsocket[0] != '\0')
        err = open_unix(s, detail);
    if (err == 0 && config_address(s->config->listen, host, &port))
        return open_tcp(s, host, port, detail);
    if (err != 0 || port == 0)
        return err;
    snprintf(words, sizeof(words), "%s", s->config->bind[0] != '\0' ? s->config->bind : "*");
    for (char *w = strtok_r(words, " ", &save); w != NULL && err == 0;
         w = strtok_r(NULL, " ", &save))
        err = open_tcp(s, w, port, detail);
    if (err == 0 && s->listeners == NULL)
        err = ERR_INVAL;
    return err;
}

void listener_close_all(struct server *s)
{
    while (s->listeners != NULL) {
        struct listener *l = s->listeners;

        s->listeners = l->next;
        if (l->unix_socket)
            unlink(s->config->unixsocket);
        event_free(l->event);
        close(l->fd);
        free(l);
    }
}

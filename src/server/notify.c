/* SPDX-License-Identifier: MIT */
/* READY=1 for systemd's Type=notify: one datagram to the socket named in NOTIFY_SOCKET. */
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/server.h"

void server_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t len;
    int fd;

    if (path == NULL || strlen(path) >= sizeof(a.sun_path))
        return;
    len = strlen(path);
    memcpy(a.sun_path, path, len);
    if (a.sun_path[0] == '@') /* abstract name */
        a.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&a,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    close(fd);
}

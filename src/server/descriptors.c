/* SPDX-License-Identifier: MIT */
/* The soft limit is raised as far as the hard one goes; root raises the hard one too. */
#include "server/descriptors.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>

#include "base/err.h"
#include "base/logger.h"
#include "log/log.h"
#include "store/store.h"

#define OWN 64u /* index, log segments, listeners, eventfds, libraries, a BACKUP */

static rlim_t own(const struct config *c)
{
    return OWN + store_volumes_wanted((uint64_t)c->max_store_bytes, (uint64_t)c->volume_size);
}

/* The limit after an attempt to make it `want`. */
static rlim_t raise_to(rlim_t want)
{
    struct rlimit lim, more;

    if (getrlimit(RLIMIT_NOFILE, &lim) != 0)
        return want; /* whoever opens too many is told then */
    if (lim.rlim_cur >= want)
        return lim.rlim_cur;
    more = (struct rlimit){want, lim.rlim_max > want ? lim.rlim_max : want};
    if (setrlimit(RLIMIT_NOFILE, &more) == 0)
        return want;
    more = (struct rlimit){lim.rlim_max < want ? lim.rlim_max : want, lim.rlim_max};
    return setrlimit(RLIMIT_NOFILE, &more) == 0 ? more.rlim_cur : lim.rlim_cur;
}

int descriptors_arrange(struct config *c, char *detail)
{
    rlim_t kept = own(c), want = (rlim_t)c->maxclients + kept, got = raise_to(want);

    if (got >= want)
        return 0;
    if (got <= kept) {
        snprintf(
            detail, LOG_DETAIL_MAX,
            "the descriptor limit is %ju, at least %ju are needed for the files of this store: "
            "raise LimitNOFILE (ulimit -n), or volume-size",
            (uintmax_t)got, (uintmax_t)kept + 1);
        return ERR_INVAL;
    }
    config_put_number(c, config_find("maxclients", 10), (int64_t)(got - kept));
    LOG_WARNING("maxclients lowered to=%" PRId64 " because of the descriptor limit action=\"raise "
                "LimitNOFILE\"",
                c->maxclients);
    return 0;
}

bool descriptors_allow(const struct config *c, int64_t clients)
{
    rlim_t want = (rlim_t)clients + own(c);

    return raise_to(want) >= want;
}

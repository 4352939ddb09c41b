/* SPDX-License-Identifier: MIT */
/* audit: after an unclean stop, one walk over index.mdb on the maint thread while the store serves.
 *
 * A damaged record is found when it is read; a damaged branch page can hide keys, which only a walk
 * that counts them can tell, or make LMDB crash. Both leave the mark of damage.h. A kill during the
 * walk leaves none.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/fail.h"
#include "base/logger.h"
#include "store/store_int.h"

struct audit {
    struct job job;
    struct store *s;
    atomic_bool cancel;
    /* out of the job */
    int err;
    uint64_t keys, bad;
};

static bool may_go_on(void *ctx, uint64_t done)
{
    struct audit *a = ctx;

    (void)done;
    return !atomic_load(&a->cancel);
}

static void work(struct job *job)
{
    struct audit *a = (struct audit *)(void *)job;
    char text[128];

    (void)FAIL("audit.walk");
    a->err = index_verify(a->s->index, &a->keys, &a->bad, may_go_on, a);
    if (a->err != ERR_CORRUPT)
        return;
    snprintf(text, sizeof(text), "a walk found %" PRIu64 " keys, its state row says otherwise",
             a->keys);
    index_mark_damaged(a->s->index, text);
}

static void done(struct job *job)
{
    struct audit *a = (struct audit *)(void *)job;
    struct store *s = a->s;

    if (a->err == ERR_CORRUPT)
        LOG_WARNING("audit index.mdb is damaged, keys may be hidden; keys_found=%" PRIu64
                    " dir=%s action=\"stop the server and run sldmkv-check\"",
                    a->keys, s->config.dir);
    else if (a->bad > 0)
        LOG_WARNING("audit index.mdb holds damaged records, they are misses; keys=%" PRIu64
                    " damaged=%" PRIu64,
                    a->keys, a->bad);
    else if (a->err == 0)
        LOG_NOTICE("audit index.mdb is sound after an unclean stop keys=%" PRIu64, a->keys);
    s->audit = NULL;
    free(a);
}

void audit_start(struct store *s)
{
    struct audit *a = calloc(1, sizeof(*a));

    ASSERT(s->audit == NULL);
    if (a == NULL)
        PANIC("out of memory");
    a->s = s;
    a->job.work = work;
    a->job.done = done;
    atomic_init(&a->cancel, false);
    s->audit = a;
    worker_submit(s->maint, &a->job);
}

void audit_cancel(struct store *s)
{
    if (s->audit != NULL)
        atomic_store(&s->audit->cancel, true);
}

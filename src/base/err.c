/* SPDX-License-Identifier: MIT */
#include "base/err.h"

#include <errno.h>

static const struct {
    const char *resp;
    const char *text;
} table[ERR_COUNT_] = {[ERR_NONE_] = {"OK", "success"},
#define X(name, prefix, txt) [ERR_POS_##name] = {prefix, txt},
                       ERR_TABLE(X)
#undef X
};

static unsigned position(int err)
{
    unsigned pos = 0u - (unsigned)err;

    return err > 0 || pos >= ERR_COUNT_ ? ERR_POS_INVAL : pos;
}

const char *err_text(int err)
{
    return table[position(err)].text;
}

const char *err_resp(int err)
{
    return table[position(err)].resp;
}

int err_from_errno(int errnum)
{
    switch (errnum) {
    case 0:
        return 0;
    case ENOMEM:
        return ERR_NOMEM;
    case ENOSPC:
    case EDQUOT:
        return ERR_NOSPC;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_ACCESS;
    case ENOENT:
        return ERR_NOTFOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EOPNOTSUPP:
        return ERR_UNSUPPORTED;
    case EAGAIN:
        return ERR_AGAIN;
    default:
        return ERR_IO;
    }
}

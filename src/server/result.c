/* SPDX-License-Identifier: MIT */
#include "server/result.h"

bool result_error(struct request *rq, const struct fsm_result *r)
{
    static const char *const texts[] = {
        [FSM_NOINT] = "ERR value is not an integer or out of range",
        [FSM_NOFLOAT] = "ERR value is not a valid float",
        [FSM_OVERFLOW] = "ERR increment or decrement would overflow",
        [FSM_NANINF] = "ERR increment would produce NaN or Infinity",
        [FSM_NOKEY] = "ERR no such key",
    };
    const char *text =
        (size_t)r->status < sizeof(texts) / sizeof(texts[0]) ? texts[r->status] : NULL;

    if (text == NULL)
        return false;
    request_error(rq, text);
    return true;
}

void result_int(struct request *rq, const struct fsm_result *r)
{
    if (!result_error(rq, r))
        emit_int(request_emit(rq), r->value);
}

void result_sum(struct request *rq, const struct fsm_result *r)
{
    rq->sum += r->value;
    if (r->last)
        emit_int(request_emit(rq), rq->sum);
}

void result_ok(struct request *rq, const struct fsm_result *r)
{
    if (r->last && !result_error(rq, r))
        emit_status(request_emit(rq), "OK");
}

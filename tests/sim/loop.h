/* SPDX-License-Identifier: MIT */
/* loop: the part of libevent that the server calls, over simulated time and sockets.
 *
 * Purpose   event_base_loop never waits: it calls what is due and what is ready, in an order drawn
 *           from the seed. Sockets are client.c's; real descriptors (the inbox's) are polled
 */
#ifndef TESTS_SIM_LOOP_H
#define TESTS_SIM_LOOP_H

#include "sim.h"

/* When the earliest timer is due, µs; UINT64_MAX: there is none. */
uint64_t loop_next_due(void);
/* Some descriptor or timer has something to do. */
bool loop_is_ready(void);
/* The process that made the events is gone. */
void loop_forget(void);

#endif

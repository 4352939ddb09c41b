/* SPDX-License-Identifier: MIT */
/* scene: short plays on the simulated machine with a script instead of dice.
 *
 * Purpose   what a seed has found once, in a few lines that say why it went wrong: a scene decides
 *           when the log commits and when a worker does its job, and knows each byte of a reply
 * Life      scene_start, any number of scene_open, and the process ends with the scene
 */
#ifndef TESTS_SIM_SCENE_H
#define TESTS_SIM_SCENE_H

#include "socket.h"

struct scene {
    const char *name;
    void (*play)(void);
};
extern const struct scene scenes[]; /* ends with NULL */

/* A quiet machine; change sim.profile before scene_start. */
void scene_quiet(void);
void scene_start(void);
void scene_restart(void); /* a clean stop and a start: no value is in memory any more */

struct sock *scene_open(void);
/* Inline commands, each with its line end. */
__attribute__((format(printf, 2, 3))) void scene_send(struct sock *s, const char *format, ...);
/* A command whose word "*" is a value of len times `byte`. */
void scene_send_value(struct sock *s, const char *words, char byte, size_t len);

/* The loop turns until it has nothing to do; workers and the log stand still. */
void scene_turn(void);
void scene_work(void);   /* … and workers do all they have */
void scene_commit(void); /* … and what is in the log commits */
void scene_finish(void); /* all of it, until nobody waits for anything */

/* The next bytes that came are these. */
__attribute__((format(printf, 2, 3))) void scene_expect(struct sock *s, const char *format, ...);
void scene_expect_value(struct sock *s, char byte, size_t len); /* as a bulk string */
void scene_expect_nothing(const struct sock *s);

#endif

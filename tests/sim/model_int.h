/* SPDX-License-Identifier: MIT */
/* model_int: one operation being tried on one state, for model.c, model_read.c, model_write.c. */
#ifndef TESTS_SIM_MODEL_INT_H
#define TESTS_SIM_MODEL_INT_H

#include "model.h"

/* Where the model cannot know, both ways are tried: the driver counts bits up. */
struct choice {
    unsigned bits, used;
};

struct trial {
    const struct operation *op;
    const struct window *w;
    struct group_state *g;
    struct choice choice;
};

bool model_choose(struct trial *t);
/* The key as it is at the moment of the operation: gone if its deadline is behind. */
struct key_state *model_key(struct trial *t, int key);
/* It was written: whoever watches it is touched. */
void model_wrote(struct trial *t, int key);
/* Somebody may or may not see this as a change. */
void model_maybe_wrote(struct trial *t, int key);
struct window model_deadline(const struct trial *t, const struct step *s);
uint64_t model_value_max(void);

/* Replies: true when it is not known, or is this. */
bool answers_int(const struct step *s, int64_t n);
bool answers_ok(const struct step *s);
bool answers_nil(const struct step *s);
bool answers_error(const struct step *s, const char *text);
/* Nil, or an error in the place of the value. */
bool answers_read_fault(const struct trial *t, const struct reply *r);
bool answers_value(const struct trial *t, const struct step *s, const struct blob *b);

bool model_read_step(struct trial *t, const struct step *s); /* false: cannot be */
bool model_write_step(struct trial *t, const struct step *s);

#endif

/* SPDX-License-Identifier: MIT */
/* words: a line split as Redis splits inline commands and conf lines.
 *
 * Purpose   words between blanks; "…" with \n \r \t \b \a \xHH and \c for c itself, '…' with \'
 *           only. A quote may open inside a word; a closing one must end it
 * Threads   any
 * Owner     the caller gives the room: a word is never longer than the text it came from
 * Errors    WORDS_UNBALANCED: an open quote, or text right behind a closing one
 * Source    behaviour of Redis 7.0, by test. A NUL is an ordinary byte here
 */
#ifndef BASE_WORDS_H
#define BASE_WORDS_H

#include "base/slice.h"

enum words_status { WORDS_END, WORDS_ONE, WORDS_UNBALANCED };

/* Takes the next word off *rest and writes it to out, which has room for rest->len bytes; out may
 * be the text itself. *len: its length. */
enum words_status words_next(struct slice *rest, uint8_t *out, size_t *len);

#endif

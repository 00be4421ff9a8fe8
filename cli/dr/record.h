/*
 * record.h: what a run did, as it did it: DIR/journal, append-only, one JSON object a line. Each line ends with its own hash (SHA-256 of the line before ",\"hash\"", which
 * has the hash of the line before it as "prev") and that hash signed by the site's key. DIR/head has the last line's number and hash once more, signed, so that a line taken
 * off the end is missed; the other site countersigns it (witness.h), for the case that somebody has this site's key.
 *
 * Several processes append: each append takes the file's lock and reads what came in between. A crash leaves whole lines, or one torn at the end, which the next append cuts off.
 * Durable: a line is on disk when record_append returns. Threads: one at a time.
 */
#ifndef CLI_DR_RECORD_H
#define CLI_DR_RECORD_H

#include "cli/dr/seal.h"

#include <jansson.h>
#include <stdint.h>

struct record;

/* Called for each line in order, also for those this process appended; borrowed. Nonzero ends the reading. */
typedef int record_fn(void *arg, const json_t *line);

/* record_open(dir, seal, fn, arg, out, err): made where it is not there; ${fn} gets all lines there are, and later ones by record_catch_up and record_append. ${seal} borrowed. */
int  record_open(const char *dir, const struct seal *seal, record_fn *fn, void *arg, struct record **out, struct err *err);
void record_close(struct record *r);

/* record_append(r, event, step, more, err): ${step} "" for none; ${more}: fields (released), NULL. Lines of others come to fn first. Errors: IO, NOSPC: nothing counts of what it was about. */
int record_append(struct record *r, const char *event, const char *step, json_t *more, struct err *err);
/* record_catch_up(r, err): what others appended. */
int record_catch_up(struct record *r, struct err *err);

/* The last line: its number, from 1 (0: none), and its hash. */
uint64_t record_seq(const struct record *r);
const char *record_hash(const struct record *r);

/*
 * record_verify(dir, public, fn, arg, n, err): reads all of a record, and proves it: numbers without a gap, the chain, every signature by ${public}, and nothing missing that DIR/head knows. ${fn}: NULL.
 * *n: its lines. Errors: NOENT; DAMAGE, with what was expected and found in which line.
 */
int record_verify(const char *dir, const char *public, record_fn *fn, void *arg, uint64_t *n, struct err *err);
/* record_line_hash(dir, seq, hash): of that line, as the file has it; false: there is none. */
bool record_line_hash(const char *dir, uint64_t seq, char hash[SEAL_HASH_TEXT]);

/* record_sync_dir(dir): a name that was made in it is there after a crash. 0, or -1 and errno. */
int record_sync_dir(const char *dir);

/* record_keep(path, text, len, err): a file of that name: all of it or what was there before; on disk when it returns. */
int record_keep(const char *path, const char *text, size_t len, struct err *err);

/* record_text(s): what a command said, as a value; where it is no UTF-8 (or was cut within a character), what is not ASCII becomes "?". */
json_t *record_text(const char *s);

/* record_time(ms, buf): RFC 3339, with milliseconds, UTC; record_now(buf): of now. record_wall_ms(): the same clock. record_parse_ms, record_parse_ns(text): -1 for what is no such time. */
const char *record_time(int64_t ms, char buf[40]);
const char *record_now(char buf[40]);
int64_t record_wall_ms(void);
int64_t record_parse_ms(const char *text);
int64_t record_parse_ns(const char *text);

#endif

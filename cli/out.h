/*
 * out.h: the one output layer. stdout is data, stderr is messages and progress; with --json both are objects,
 * one a line.
 *
 * Threads: the main thread only, but for out_interrupted.
 */
#ifndef CLI_OUT_H
#define CLI_OUT_H

#include "store/base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Exit codes that no error of the store stands for. product.md, "Conventions". */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_WARNINGS = 3 };

/* Set by SIGINT and SIGTERM: the signal's number. Long work looks at it and ends with ERR_INTR. */
extern volatile int out_interrupted;

/* out_init(): signal handlers; SIGPIPE is ignored, a reader that is gone ends the command quietly. */
void out_init(void);

/* out_json: the command line asked for --json. */
extern bool out_json;

/* out_text(fmt, ...): to stdout, as it is. out_object(o): one line to stdout; borrowed. */
void out_text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void out_object(const json_t *o);
/* out_bytes(p, len): raw data to stdout; 0, or INTR when nobody reads it any more, or IO. */
int out_bytes(const void *p, size_t len, struct err *err);

/* out_message(fmt, ...): "spare: ..." to stderr; with --json {"message": ...}. out_warn: the same, and the exit code of a
 * command that otherwise succeeds becomes 3. */
void out_message(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void out_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* out_error(err, code): report a failure; returns the exit code for it. A message without ": " of its own gets the
 * text of the code. ERR_INTR after a signal prints nothing and gives 130 or 143. */
int out_error(const struct err *err, int code);

/* out_finish(exit): flush; a stdout that could not be written turns success into 1. Returns the exit code. */
int out_finish(int exit_code);

/*
 * Progress: a line that rewrites itself on a terminal, from the second second on; nothing elsewhere. With --json on a
 * terminal or not: nothing. out_progress(what, done, total): bytes; total 0 when not known. out_progress_end(): clears it.
 */
void out_progress(const char *what, uint64_t done, uint64_t total);
void out_progress_end(void);

/* out_name(bytes): for text output: control characters, backslashes and bad UTF-8 escaped C-like; a static buffer. */
const char *out_name(const char *bytes);
/* out_size(bytes, buf): "1.5 GiB". */
const char *out_size(uint64_t bytes, char buf[32]);
/* out_time(rfc3339, buf): "2026-11-22T101503Z", the form listings and `.snapshots` have; "-" of "". */
const char *out_time(const char *rfc3339, char buf[40]);

/* Fields of an item: text "" and 0 where absent. */
const char *item_text(const json_t *o, const char *key);
uint64_t item_u64(const json_t *o, const char *key);
bool item_true(const json_t *o, const char *key);
/* item_name(o, key): a name for text output, from KEY_hex where there is one, escaped; a static buffer. */
const char *item_name(const json_t *o, const char *key);

#endif

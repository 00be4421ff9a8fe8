/*
 * twosites.h: two test stores, one the standby of the other, and the real loops between them. Failures that nobody asked for fail the test.
 */
#ifndef TESTS_LIB_TWOSITES_H
#define TESTS_LIB_TWOSITES_H

#include "store/sync/link.h"
#include "tests/lib/teststore.h"

/* twosites_standby(of, t): an empty standby, on a disk of its own, opened, on the clock of the other; with threads, as link_receive needs them; each has luck, and ids, of its own. ts_free.
 * twosites_both(a, b): a primary with a file "one" of that content, and its standby, which has it. */
void twosites_standby(struct teststore *of, struct teststore *t);
void twosites_both(struct teststore *a, struct teststore *b);

/* twosites_wait_for(of, t): ${t} is noted as a standby of ${of}, has what it has now, and is waited for (store_held_from). */
void twosites_wait_for(struct teststore *of, struct teststore *t);

/* twosites_send(from, to, err): all that the one has and the other has not, wherever it lies, record by record without a stream; synced. What store_follow says. */
int twosites_send(struct teststore *from, struct teststore *to, struct err *err);

/* How a stream ended at each side. */
struct twosites_end { int ship, receive; struct err ship_err, receive_err; struct link_info shipped, received; struct rewind rewind; };

/* twosites_ship(from, to, end): everything durable goes, over two descriptors, each side in a thread; 0 where both sides say so. ${end} may be NULL: then it must. */
int twosites_ship(struct teststore *from, struct teststore *to, struct twosites_end *end);

/* twosites_same_records(a, b): all records that ${b} has durable are the same in both, and can be read; how many. */
unsigned twosites_same_records(struct teststore *a, struct teststore *b);

struct super *twosites_super(struct store *s);  /* in a static buffer */

#endif

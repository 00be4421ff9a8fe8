/*
 * twosites.h: two test stores, one the standby of the other, and the real loops between them. Failures that nobody asked for fail the test.
 */
#ifndef TESTS_LIB_TWOSITES_H
#define TESTS_LIB_TWOSITES_H

#include "store/sync/link.h"
#include "tests/lib/teststore.h"

/* twosites_standby(of, t): an empty standby, on a disk of its own, opened, on the clock of the other; with threads, as link_receive needs them. ts_free. */
void twosites_standby(struct teststore *of, struct teststore *t);

/* How a stream ended at each side. */
struct twosites_end { int ship, receive; struct err ship_err, receive_err; struct link_info shipped, received; struct rewind rewind; };

/* twosites_ship(from, to, end): everything durable goes, over two descriptors, each side in a thread; 0 where both sides say so. ${end} may be NULL: then it must. */
int twosites_ship(struct teststore *from, struct teststore *to, struct twosites_end *end);

struct store_info *twosites_info(struct store *s);      /* in a static buffer */

#endif

/*
 * subio.h: a directory of a simulated disk as if it were the whole of one: a store inside of a store. Files opened through it are those of the disk below.
 */
#ifndef TESTS_LIB_SUBIO_H
#define TESTS_LIB_SUBIO_H

#include "store/base/io.h"

/* subio_new(under, dir): ${under} lives longer. Release by its ops' free. Aborts without memory. */
struct io *subio_new(struct io *under, const char *dir);

#endif

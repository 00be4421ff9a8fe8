/*
 * scrub_files.h: what of a store is not data: copies of superblock and retained set, headers of segments, files of the archive, bases, heads and tables of packs. What the store has twice is made whole at once, without another site.
 *
 * Threads: any; takes no lock but for moments, and store_maint_begin where a file is made anew.
 */
#ifndef STORE_MAINT_SCRUB_FILES_H
#define STORE_MAINT_SCRUB_FILES_H

#include "store/maint/scrub.h"

/* scrub_files(s, opt, found, arg, mended, err): ${found} is called for each damaged place; *${mended}: how many of them are whole again. Where ${w}->until is not 0 it is a wound for who has another copy. */
int scrub_files(struct store *s, const struct scrub_options *opt, void (*found)(void *arg, const struct wound *w, const struct err *why), void *arg, uint64_t *mended, struct err *err);

#endif

/*
 * boot.h: what a new standby of a store that has let go of something begins with: its files of archive and packs, the retained set, and the address
 * from which on the log is sent. PROTOCOL.md, "Files".
 *
 * Threads: none of its own; one caller at a time.
 */
#ifndef STORE_SYNC_BOOT_H
#define STORE_SYNC_BOOT_H

#include "store/core/store.h"
#include "store/sync/proto.h"

/*
 * boot_list(s, list, err): of the sender: *${list} as LIST has it, but for lineage, key and time zone, and *${end}, its position: archive and packs both have all below. free(list->p).
 * Errors: NOENT nothing has left the log; IO, DAMAGE, NOMEM.
 */
int boot_list(struct store *s, struct proto_list *list, uint64_t *end, struct err *err);

/* boot_retained(s, end, buf, len, err): of the sender: the retained set as it is now, without what is held for others; malloced. BUSY: it keeps everything only from behind ${end} on,
 * where the files listed end: list anew. NOMEM. */
int boot_retained(struct store *s, uint64_t end, uint8_t **buf, size_t *len, struct err *err);

/* What a receiver is being sent; all zero to begin with. */
struct boot {
    struct io *io;
    struct io_file *lock;        /* of the store to be: two at once would tidy up behind each other */
    struct proto_list list;      /* a copy, its files too */
    uint64_t end;
    struct proto_list_file *file;
    uint32_t n, n_want, next;    /* next: of want, which is being written, or is to come */
    struct boot_want { uint32_t index; uint64_t from; } *want;     /* from: so much of it is here already */
    struct io_file *part;        /* what it is written to, NAME.next; up to at */
    uint64_t at;
};

/*
 * boot_begin(b, io, list, end, err): which of them are not in the store's directory, whole: b->want. What is there and is not named goes. ${io} lives longer.
 * boot_take(b, f, position, err): a part of one, in order; behind the last part the file has its name, durably, if the hash it ends with is that of its bytes;
 *   else what came of it goes.
 * boot_make(b, dir, retained, len, err): all of them are there: a standby, closed, of which no superblock was there before.
 * Errors: BADREC what is not as the list said; EXIST there is a store; IO, NOSPC, NOMEM.
 */
int  boot_begin(struct boot *b, struct io *io, const struct proto_list *list, uint64_t end, struct err *err);
int  boot_take(struct boot *b, const struct proto_file *f, uint64_t position, struct err *err);
int  boot_make(struct boot *b, const char *dir, const uint8_t *retained, size_t len, struct err *err);
void boot_release(struct boot *b);

#endif

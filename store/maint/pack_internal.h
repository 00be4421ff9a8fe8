/*
 * pack_internal.h: what the files of packing share. pack_window.c: which data a window of the log has, and in which order they are packed.
 * pack_fill.c: from data to chunks, frames and addresses. packer.c: the steps.
 */
#ifndef STORE_MAINT_PACK_INTERNAL_H
#define STORE_MAINT_PACK_INTERNAL_H

#include "store/maint/packer.h"
#include "store/pack/archive.h"
#include "store/pack/history.h"
#include "store/pack/packs.h"

enum {
    WINDOW_SEGMENTS = 16,            /* of one pack, at most */
    WINDOW_EXTENTS  = 16 << 10,      /* writes of one window, at most: each takes about 300 bytes of memory while it is packed */
    GROUP_BYTES     = 512 << 10,     /* chunks compressed together: to read one is to expand so much */
    SAMPLE_BYTES    = 4 << 10,       /* of a chunk, to see whether it can be compressed at all */
    DEPTH_SMALL     = 16, DEPTH_LARGE = 6, SMALL_CHUNK = 64 << 10,    /* differences on differences, at most */
    PACK_LEVEL      = 3,
    PATH_BLOCK_BITS = 18,            /* the chunks of a name are remembered by so large parts of it */
};

/* Data of one record. */
struct extent {
    uint64_t lsn, ino, off;          /* off: in the file */
    uint64_t path;                   /* hash of the name the file had last in the window */
    uint64_t order;                  /* LSN of what of its directory comes first in the window: directories stay together */
    uint32_t dstart, len;
};

struct window {
    uint64_t first, end;
    struct extent *ext;
    size_t n, cap;
    uint64_t records, data_bytes;
    uint64_t last_lsn;
    uint8_t epoch_id[16];            /* of the last record */
};

/* told_to_stop(opt, err): BUSY if so, else 0. */
int told_to_stop(const struct packer_options *opt, struct err *err);

/* window_add(w, rec, data): one more record, its data too if somebody needs them. NOMEM. */
int window_add(struct window *w, const struct record *rec, bool data);
/* window_arrange(w, s, err): names, and the order of packing. */
int window_arrange(struct window *w, struct store *s, struct err *err);
void window_release(struct window *w);

/*
 * fill_pack(s, opt, w, pack, res, err): the data of ${w} into the pack being written; remembers in the index what later ones may refer to, with
 * fill_remember, to be called once the pack is durable. *${out} is released with fill_free.
 */
struct filled;
int  fill_pack(struct store *s, const struct packer_options *opt, const struct window *w, struct pack_writer *pack, struct packer_result *res,
               struct filled **out, struct err *err);
int  fill_remember(struct filled *f, struct store *s, struct err *err);
void fill_free(struct filled *f);

#endif

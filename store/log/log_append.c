/*
 * log_append.c: the fast path. begin (or place, at a standby) takes an address and seals the chain under
 * the mutex, without I/O or memory; write puts the bytes there in any order;
 * a ring of what is under way says up to where all of it is written.
 */
#include "store/log/log_internal.h"

#include <string.h>

/* Whether begin must wait: a segment is being made, or the ring is full. */
static bool held_up(const struct log *log)
{
    return log->switching || log->ring_tail - log->ring_head == LOG_RING;
}

/* The next address, if a record of ${span} may have it now. The mutex is held at return. */
static int take_locked(struct log *log, uint64_t span, uint64_t *at)
{
    while ((held_up(log) || atomic_load_explicit(&log->head, memory_order_relaxed) + span > log->zeroing) && atomic_load(&log->poisoned) == 0)
        log_wait_locked(log);
    *at = atomic_load_explicit(&log->head, memory_order_relaxed);
    if (atomic_load(&log->poisoned) != 0 || log->finished)
        return ERR_POISONED;
    return *at + span > log->cur->first + log->cur->capacity ? ERR_NOSPC : 0;
}

/* The record at the head is ${rec}: its frame, and its place among those under way. */
static void enter_locked(struct log *log, const struct record *rec, struct log_slot *slot)
{
    uint32_t rec_len = rec->head_len + rec->data_len;
    struct frame f = { .rec_len = rec_len, .lsn = rec->lsn, .gen = log->cur->gen, .incarnation = log->incarnation,
                       .durable = atomic_load_explicit(&log->durable, memory_order_relaxed) };

    frame_encode(&f, slot->frame);
    slot->lsn = rec->lsn;
    slot->span = frame_span(rec_len);
    slot->segment = log->cur;
    slot->offset = segment_offset(log->cur, rec->lsn);
    slot->ring = log->ring_tail++ % LOG_RING;
    log->ring[slot->ring].end = rec->lsn + slot->span;
    log->ring[slot->ring].done = false;
    log->last_lsn = rec->lsn;
    log->last_hash = rec->hash;
    atomic_store(&log->head, rec->lsn + slot->span);
}

int log_append_begin(struct log *log, struct record *rec, uint8_t *head, struct log_slot *slot)
{
    uint64_t at;
    int rc;

    if (!log->writable)
        return ERR_ROFS;
    pthread_mutex_lock(&log->mutex);
    rc = take_locked(log, frame_span(rec->head_len + rec->data_len), &at);
    if (rc == 0) {
        rec->lsn = at;
        rec->prev_lsn = log->last_lsn;
        rec->prev_hash = log->last_hash;
        rec->epoch = log->epoch;
        rec->incarnation = log->incarnation;
        rec->wall_ns = io_wall_ns(log->io);
        rec->boot_ns = io_boot_ns(log->io);
        record_seal(head, rec->head_len, rec);
        enter_locked(log, rec, slot);
    }
    pthread_mutex_unlock(&log->mutex);
    return rc;
}

int log_append_place(struct log *log, const struct record *rec, struct log_slot *slot)
{
    uint64_t at;
    int rc;

    if (!log->writable)
        return ERR_ROFS;
    pthread_mutex_lock(&log->mutex);
    rc = take_locked(log, frame_span(rec->head_len + rec->data_len), &at);
    if (rc == 0 && (rec->lsn != at || rec->prev_lsn != log->last_lsn || !hash128_eq(&rec->prev_hash, &log->last_hash) ||
                    rec->epoch != log->epoch))
        rc = ERR_BADREC;
    if (rc == 0)
        enter_locked(log, rec, slot);
    pthread_mutex_unlock(&log->mutex);
    return rc;
}

int log_append_write(struct log *log, struct log_slot *slot, const uint8_t *head, uint32_t head_len,
                     const void *data, uint32_t data_len, struct err *err)
{
    struct segment *seg = slot->segment;    /* pinned: not wholly durable yet */
    struct iovec iov[3] = {
        { slot->frame, sizeof slot->frame },
        { (void *)(uintptr_t)head, head_len },
        { (void *)(uintptr_t)data, data_len },
    };
    int rc;

    if (log_poisoned(log))
        return err_set(err, ERR_POISONED, "log: an earlier write or flush failed");
    rc = io_pwritev(seg->file, iov, data_len > 0 ? 3 : 2, slot->offset, err);
    if (rc != 0) {
        log_poison(log);
        return rc;
    }
    pthread_mutex_lock(&log->mutex);
    log->ring[slot->ring].done = true;
    if (slot->ring == log->ring_head % LOG_RING) {
        do {
            atomic_store(&log->written, log->ring[log->ring_head % LOG_RING].end);
            log->ring_head++;
        } while (log->ring_head != log->ring_tail && log->ring[log->ring_head % LOG_RING].done);
        log_wake_locked(log);
    }
    pthread_mutex_unlock(&log->mutex);
    return 0;
}

int log_wait_written(struct log *log, uint64_t lsn)
{
    int rc = log_poisoned(log);

    if (rc != 0 || atomic_load(&log->written) > lsn)
        return rc;
    pthread_mutex_lock(&log->mutex);
    while (atomic_load(&log->written) <= lsn && atomic_load(&log->poisoned) == 0)
        log_wait_locked(log);
    rc = atomic_load(&log->poisoned);
    pthread_mutex_unlock(&log->mutex);
    return rc;
}

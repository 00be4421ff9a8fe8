/* squeeze.c: see squeeze.h. The only file that knows zstd. */
#include "store/pack/squeeze.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

enum { WINDOW_LOG_MIN = 10, WINDOW_LOG_MAX = 24, PREFIX_HASH_LOG_MIN = 17 };

struct squeeze { ZSTD_CCtx *c; ZSTD_DCtx *d; };

struct squeeze *squeeze_new(void)
{
    return calloc(1, sizeof(struct squeeze));
}

void squeeze_free(struct squeeze *z)
{
    if (z == NULL)
        return;
    ZSTD_freeCCtx(z->c);
    ZSTD_freeDCtx(z->d);
    free(z);
}

size_t squeeze_bound(size_t n)
{
    return ZSTD_compressBound(n);
}

/* The smallest window that ${n} bytes fit in. */
static int window_log(size_t n)
{
    int log = WINDOW_LOG_MIN;

    while (log < WINDOW_LOG_MAX && (size_t)1 << log < n)
        log++;
    return log;
}

static int prefix_hash_log(int window)
{
    return window - 3 < PREFIX_HASH_LOG_MIN ? PREFIX_HASH_LOG_MIN : window - 3;
}

/*
 * Columns of numbers repeat in short runs. zstd's levels above 5 look for matches of five bytes and more in so much; with matches of four, a search
 * that takes two thirds of the time of level 12 finds more than that does.
 */
static size_t set_level(ZSTD_CCtx *c, int level)
{
    static const struct { ZSTD_cParameter what; int to; } columns[] = {
        { ZSTD_c_compressionLevel, 9 }, { ZSTD_c_strategy, ZSTD_lazy }, { ZSTD_c_searchLog, 6 }, { ZSTD_c_minMatch, 4 },
    };
    size_t r = 0;

    if (level != SQUEEZE_COLUMNS)
        return ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level);
    for (size_t i = 0; i < sizeof columns / sizeof *columns && !ZSTD_isError(r); i++)
        r = ZSTD_CCtx_setParameter(c, columns[i].what, columns[i].to);
    return r;
}

int64_t squeeze(struct squeeze *z, int level, const void *src, size_t n, const void *prefix, size_t prefix_len, void *dst, size_t cap)
{
    size_t r;

    if (n > SQUEEZE_MAX || prefix_len > SQUEEZE_MAX - n)
        return ERR_TOOLONG;
    if (z->c == NULL && (z->c = ZSTD_createCCtx()) == NULL)
        return ERR_NOMEM;
    r = ZSTD_CCtx_reset(z->c, ZSTD_reset_session_and_parameters);
    if (!ZSTD_isError(r))
        r = set_level(z->c, level);
    if (!ZSTD_isError(r))
        r = ZSTD_CCtx_setParameter(z->c, ZSTD_c_windowLog, window_log(n + prefix_len));
    /* Of a prefix zstd looks at the last 8 << hashLog bytes only, which at low levels are few. */
    if (!ZSTD_isError(r) && prefix != NULL && level < 5)
        r = ZSTD_CCtx_setParameter(z->c, ZSTD_c_hashLog, prefix_hash_log(window_log(prefix_len)));
    if (!ZSTD_isError(r) && prefix != NULL)
        r = ZSTD_CCtx_refPrefix(z->c, prefix, prefix_len);
    if (!ZSTD_isError(r))
        r = ZSTD_compress2(z->c, dst, cap, src, n);
    if (!ZSTD_isError(r))
        return (int64_t)r;
    switch (ZSTD_getErrorCode(r)) {
    case ZSTD_error_dstSize_tooSmall: return ERR_RANGE;
    case ZSTD_error_memory_allocation: return ERR_NOMEM;
    default: return ERR_UNKNOWN;
    }
}

/*
 * Whether the ${n} bytes are one frame of ours: no checksum, no dictionary, a window within bounds. ZSTD_decompressDCtx would take
 * several frames, and ones that hold nothing. RFC 8878, "Frame_Header".
 */
static bool is_ours(const uint8_t *p, size_t n)
{
    static const uint8_t mark[4] = { 0x28, 0xb5, 0x2f, 0xfd };

    if (n < 6 || memcmp(p, mark, sizeof mark) != 0 || (p[4] & 0x07) != 0)
        return false;
    if ((p[4] & 0x20) == 0 && (p[5] >> 3 > WINDOW_LOG_MAX - 10 || (p[5] >> 3 == WINDOW_LOG_MAX - 10 && (p[5] & 7) != 0)))
        return false;
    return ZSTD_findFrameCompressedSize(p, n) == n;
}

int unsqueeze(struct squeeze *z, const void *src, size_t n, const void *prefix, size_t prefix_len, void *dst, size_t exact_len)
{
    size_t r;

    if (z->d == NULL && (z->d = ZSTD_createDCtx()) == NULL)
        return ERR_NOMEM;
    if (!is_ours(src, n))
        return ERR_DAMAGE;
    r = ZSTD_DCtx_reset(z->d, ZSTD_reset_session_and_parameters);
    if (!ZSTD_isError(r) && prefix != NULL)
        r = ZSTD_DCtx_refPrefix(z->d, prefix, prefix_len);
    if (!ZSTD_isError(r))
        r = ZSTD_decompressDCtx(z->d, dst, exact_len, src, n);
    if (ZSTD_isError(r))
        return ZSTD_getErrorCode(r) == ZSTD_error_memory_allocation ? ERR_NOMEM : ERR_DAMAGE;
    return r == exact_len ? 0 : ERR_DAMAGE;
}

#include "cli/dr/record.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 64 * 1024 };

struct record {
    int fd;
    char *dir;
    const struct seal *seal;
    record_fn *fn;
    void *arg;
    off_t read_to;              /* whole lines up to here were seen */
    uint64_t seq;
    char hash[SEAL_HASH_TEXT];
};

/* ---- time ---- */

int64_t record_wall_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

const char *record_time(int64_t ms, char buf[40])
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;

    gmtime_r(&s, &tm);
    strftime(buf, 40, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(buf + strlen(buf), 40 - strlen(buf), ".%03dZ", (int)(ms % 1000));
    return buf;
}

const char *record_now(char buf[40])
{
    return record_time(record_wall_ms(), buf);
}

int64_t record_parse_ns(const char *text)
{
    struct tm tm = { 0 };
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    int64_t ns = 0, unit = 100000000;

    if (!rest)
        return -1;
    if (*rest == '.')
        for (rest++; *rest >= '0' && *rest <= '9'; rest++, unit /= 10)
            ns += (*rest - '0') * unit;
    if (strcmp(rest, "Z") != 0)
        return -1;
    return (int64_t)timegm(&tm) * 1000000000 + ns;
}

int64_t record_parse_ms(const char *text)
{
    int64_t ns = record_parse_ns(text);

    return ns < 0 ? -1 : ns / 1000000;
}

/* ---- lines ---- */

json_t *record_text(const char *s)
{
    json_t *v = json_string(s);
    char *plain = v ? NULL : strdup(s);

    for (char *c = plain; c && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    if (plain)
        v = json_string(plain);
    free(plain);
    return v;
}

/* Where what is hashed ends; NULL: no such line. */
static const char *body_end(const char *line, size_t len)
{
    static const char mark[] = ",\"hash\":\"";
    const char *found = NULL;

    for (const char *p = line; (p = memmem(p, len - (size_t)(p - line), mark, sizeof mark - 1)); p++)
        found = p;
    return found;
}

/* What stands behind that: hash and signature, and nothing that neither is over. */
static bool tail_fits(const char *end, size_t len)
{
    static const char hash[] = ",\"hash\":\"", sig[] = "\",\"sig\":\"", last[] = "\"}";
    const size_t at_sig = sizeof hash - 1 + SEAL_HASH_TEXT - 1, at_last = at_sig + sizeof sig - 1 + SEAL_SIG_TEXT - 1;

    return len == at_last + sizeof last - 1 && memcmp(end + at_sig, sig, sizeof sig - 1) == 0 && memcmp(end + at_last, last, sizeof last - 1) == 0 &&
           memchr(end + sizeof hash - 1, '"', SEAL_HASH_TEXT - 1) == NULL && memchr(end + at_sig + sizeof sig - 1, '"', SEAL_SIG_TEXT - 1) == NULL;
}

/* One line, its own hash proven, its number and predecessor as expected. Owned by the caller. */
static json_t *parse(const char *line, size_t len, uint64_t seq, const char *prev, const char *file, struct err *err)
{
    const char *end = body_end(line, len), *hash, *before;
    char own[SEAL_HASH_TEXT];
    json_error_t why;
    json_t *o = json_loadb(line, len, JSON_REJECT_DUPLICATES, &why);

    hash = json_string_value(json_object_get(o, "hash"));
    before = json_string_value(json_object_get(o, "prev"));
    if (!o || !end || !hash || !before || !tail_fits(end, (size_t)(line + len - end))) {
        err_set(err, ERR_DAMAGE, "%s: line %llu: expected a line of a record, found something else", file, (unsigned long long)seq);
        goto bad;
    }
    seal_hash(line, (size_t)(end - line), own);
    if (strcmp(own, hash) != 0) {
        err_set(err, ERR_DAMAGE, "%s: line %llu: expected the hash %.16s..., found %.16s...: it was changed", file, (unsigned long long)seq, own, hash);
        goto bad;
    }
    if (json_integer_value(json_object_get(o, "seq")) != (json_int_t)seq || strcmp(before, prev) != 0) {
        err_set(err, ERR_DAMAGE, "%s: line %llu: expected what follows %.16s..., found line %lld behind %.16s...: a line was removed, or put in", file, (unsigned long long)seq, prev,
                (long long)json_integer_value(json_object_get(o, "seq")), before);
        goto bad;
    }
    return o;
bad:
    json_decref(o);
    return NULL;
}

/* ---- appending ---- */

int record_sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc, e;

    if (fd < 0)
        return -1;
    rc = fsync(fd);
    e = errno;
    close(fd);
    errno = e;
    return rc;
}

int record_keep(const char *path, const char *text, size_t len, struct err *err)
{
    char part[PATH_MAX + 160], dir[PATH_MAX + 160];
    FILE *f;
    bool ok;

    snprintf(part, sizeof part, "%s.part", path);
    snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(path, '/') - path), path);
    f = fopen(part, "we");
    if (!f)
        return err_from_errno(err, errno, "%s", part);
    ok = fwrite(text, 1, len, f) == len && fflush(f) == 0 && fsync(fileno(f)) == 0;
    if (fclose(f) || !ok || rename(part, path) || record_sync_dir(dir))
        return err_from_errno(err, errno, "%s", path);
    return 0;
}

static int path_error(struct record *r, struct err *err, const char *what)
{
    return err_from_errno(err, errno, "%s/journal: %s", r->dir, what);
}

/* What is behind read_to. A torn last line is left, or with ${cut} taken off. */
static int take_in(struct record *r, bool cut, struct err *err)
{
    struct stat st;
    char *buf;
    size_t len, at = 0;
    int rc = 0;

    if (fstat(r->fd, &st))
        return path_error(r, err, "stat");
    if (st.st_size < r->read_to)
        return err_set(err, ERR_DAMAGE, "%s/journal: expected at least %lld bytes, found %lld: somebody shortened it", r->dir, (long long)r->read_to, (long long)st.st_size);
    len = (size_t)(st.st_size - r->read_to);
    buf = malloc(len + 1);
    if (!buf)
        return err_set(err, ERR_NOMEM, "no memory");
    if (pread(r->fd, buf, len, r->read_to) != (ssize_t)len)
        rc = path_error(r, err, "reading");
    while (rc == 0 && at < len) {
        const char *nl = memchr(buf + at, '\n', len - at);
        json_t *o;

        if (!nl) {
            if (cut && ftruncate(r->fd, r->read_to))
                rc = path_error(r, err, "cutting off a torn line");
            break;
        }
        o = parse(buf + at, (size_t)(nl - buf) - at, r->seq + 1, r->hash, r->dir, err);
        if (!o) {
            rc = ERR_DAMAGE;
            break;
        }
        r->seq++;
        snprintf(r->hash, sizeof r->hash, "%s", json_string_value(json_object_get(o, "hash")));
        r->read_to += nl + 1 - (buf + at);
        at = (size_t)(nl + 1 - buf);
        rc = r->fn ? r->fn(r->arg, o) : 0;
        json_decref(o);
    }
    free(buf);
    return rc;
}

int record_catch_up(struct record *r, struct err *err)
{
    return take_in(r, false, err);
}

/* Best effort: without it a line taken off the end is only missed by the other site. */
static void write_head(struct record *r)
{
    char path[PATH_MAX], tmp[PATH_MAX + 16], text[256], sig[SEAL_SIG_TEXT];
    FILE *f;

    snprintf(text, sizeof text, "%llu %s", (unsigned long long)r->seq, r->hash);
    if (seal_sign(r->seal, text, strlen(text), sig, NULL))
        return;
    snprintf(path, sizeof path, "%s/head", r->dir);
    snprintf(tmp, sizeof tmp, "%s.new", path);
    f = fopen(tmp, "we");
    if (!f)
        return;
    fprintf(f, "%s %s\n", text, sig);
    bool whole = fflush(f) == 0 && fsync(fileno(f)) == 0;

    if (fclose(f) == 0 && whole)
        (void)rename(tmp, path);
}

static char *line_of(struct record *r, const char *event, const char *step, json_t *more, struct err *err)
{
    char now[40], hash[SEAL_HASH_TEXT], sig[SEAL_SIG_TEXT];
    json_t *o = json_object();
    char *body = NULL, *line = NULL;

    json_object_set_new(o, "seq", json_integer((json_int_t)r->seq + 1));
    json_object_set_new(o, "time", json_string(record_now(now)));
    json_object_set_new(o, "event", json_string(event));
    if (*step)
        json_object_set_new(o, "step", json_string(step));
    if (more)
        json_object_update_missing(o, more);
    json_object_set_new(o, "prev", json_string(r->hash));
    body = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    if (!body || strlen(body) > LINE_MAX_BYTES) {
        err_set(err, body ? ERR_TOOLONG : ERR_NOMEM, "%s/journal: a line of %s cannot be written", r->dir, event);
        free(body);
        return NULL;
    }
    body[strlen(body) - 1] = '\0';       /* the closing brace comes behind the hash */
    seal_hash(body, strlen(body), hash);
    if (seal_sign(r->seal, hash, strlen(hash), sig, err) == 0 && asprintf(&line, "%s,\"hash\":\"%s\",\"sig\":\"%s\"}\n", body, hash, sig) < 0)
        line = NULL;
    free(body);
    return line;
}

int record_append(struct record *r, const char *event, const char *step, json_t *more, struct err *err)
{
    char *line = NULL;
    int rc;

    if (flock(r->fd, LOCK_EX)) {
        json_decref(more);
        return path_error(r, err, "locking");
    }
    rc = take_in(r, true, err);
    if (rc == 0 && !(line = line_of(r, event, step, more, err)))
        rc = err && err->code ? err->code : ERR_NOMEM;
    if (rc == 0) {
        ssize_t n = write(r->fd, line, strlen(line));

        if (n != (ssize_t)strlen(line) || fdatasync(r->fd)) {
            rc = path_error(r, err, "writing");
            if (ftruncate(r->fd, r->read_to))            /* it was said not to count: nobody finds it there later */
                rc = path_error(r, err, "taking back a line that could not be written");
        }
    }
    if (rc == 0)
        rc = take_in(r, false, err);
    if (rc == 0)
        write_head(r);
    (void)flock(r->fd, LOCK_UN);
    json_decref(more);
    free(line);
    return rc;
}

int record_open(const char *dir, const struct seal *seal, record_fn *fn, void *arg, struct record **out, struct err *err)
{
    struct record *r = calloc(1, sizeof *r);
    char path[PATH_MAX];
    struct stat st;
    int rc = 0;

    if (!r || !(r->dir = strdup(dir))) {
        free(r);
        return err_set(err, ERR_NOMEM, "no memory");
    }
    r->seal = seal;
    r->fn = fn;
    r->arg = arg;
    snprintf(path, sizeof path, "%s/journal", dir);
    r->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (r->fd < 0)
        rc = path_error(r, err, "opening");
    if (rc == 0 && (fstat(r->fd, &st) || (st.st_size == 0 && record_sync_dir(dir))))
        rc = path_error(r, err, "its directory");
    if (rc == 0)
        rc = take_in(r, false, err);
    if (rc)
        record_close(r);
    else
        *out = r;
    return rc;
}

void record_close(struct record *r)
{
    if (!r)
        return;
    if (r->fd >= 0)
        close(r->fd);
    free(r->dir);
    free(r);
}

uint64_t record_seq(const struct record *r)
{
    return r->seq;
}

const char *record_hash(const struct record *r)
{
    return r->hash;
}

/* ---- proving ---- */

/* What DIR/head knows: this line was there. */
static int check_head(const char *dir, const char *public, uint64_t n, struct err *err)
{
    char path[PATH_MAX], hash[SEAL_HASH_TEXT], found[SEAL_HASH_TEXT], sig[SEAL_SIG_TEXT], text[256];
    unsigned long long seq = 0;
    FILE *f;
    int got;

    snprintf(path, sizeof path, "%s/head", dir);
    f = fopen(path, "re");
    if (!f)
        return err_set(err, ERR_DAMAGE, "%s: expected the head of the record, found none: %s", path, strerror(errno));
    got = fscanf(f, "%llu %64s %88s", &seq, hash, sig);
    fclose(f);
    snprintf(text, sizeof text, "%llu %s", seq, hash);
    if (got != 3 || !seal_verify(public, text, strlen(text), sig))
        return err_set(err, ERR_DAMAGE, "%s: expected a head signed by %s, found another", path, public);
    if (seq > n)
        return err_set(err, ERR_DAMAGE, "%s/journal: expected %llu lines, found %llu: its end was taken off", dir, seq, (unsigned long long)n);
    if (!record_line_hash(dir, seq, found) || strcmp(found, hash) != 0)
        return err_set(err, ERR_DAMAGE, "%s/journal: line %llu: expected the hash %.16s..., found %.16s...: it was made anew", dir, seq, hash, found);
    return 0;
}

int record_verify(const char *dir, const char *public, record_fn *fn, void *arg, uint64_t *n, struct err *err)
{
    char path[PATH_MAX], prev[SEAL_HASH_TEXT] = "", *line = NULL;
    size_t cap = 0;
    ssize_t len;
    FILE *f;
    int rc = 0;

    *n = 0;
    snprintf(path, sizeof path, "%s/journal", dir);
    f = fopen(path, "re");
    if (!f)
        return err_from_errno(err, errno, "%s", path);
    while (rc == 0 && (len = getline(&line, &cap, f)) > 0) {
        json_t *o;
        const char *hash;

        if (line[len - 1] != '\n')
            break;                       /* torn: never counted */
        o = parse(line, (size_t)len - 1, *n + 1, prev, path, err);
        hash = json_string_value(json_object_get(o, "hash"));
        if (!o)
            rc = ERR_DAMAGE;
        else if (!seal_verify(public, hash, strlen(hash), json_string_value(json_object_get(o, "sig"))))
            rc = err_set(err, ERR_DAMAGE, "%s: line %llu: expected a signature by %s, found another", path, (unsigned long long)*n + 1, public);
        if (rc == 0) {
            snprintf(prev, sizeof prev, "%s", hash);
            ++*n;
            rc = fn ? fn(arg, o) : 0;
        }
        json_decref(o);
    }
    free(line);
    fclose(f);
    return rc ? rc : check_head(dir, public, *n, err);
}

bool record_line_hash(const char *dir, uint64_t seq, char hash[SEAL_HASH_TEXT])
{
    char path[PATH_MAX], *line = NULL;
    size_t cap = 0;
    ssize_t len = 0;
    bool ok = false;
    FILE *f;

    snprintf(path, sizeof path, "%s/journal", dir);
    snprintf(hash, SEAL_HASH_TEXT, "none");
    f = fopen(path, "re");
    if (!f)
        return false;
    for (uint64_t i = 0; i < seq && (len = getline(&line, &cap, f)) > 0; i++)
        ;
    if (seq > 0 && len > 0) {
        const char *end = body_end(line, (size_t)len);

        ok = end && sscanf(end, ",\"hash\":\"%64[0-9a-f]", hash) == 1;
    }
    free(line);
    fclose(f);
    return ok;
}

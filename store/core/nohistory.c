/* nohistory.c: see nohistory.h. */
#include "store/core/nohistory.h"

#include "store/core/core_internal.h"
#include "store/core/version_internal.h"

#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the setting ---- */

/* What is wrong with a pattern, or NULL. One that every name matches would end all history by a slip of the hand. */
static const char *pattern_wrong(const char *p, size_t n)
{
    size_t wild = 0;
    for (size_t i = 0; i < n; i++)
        wild += p[i] == '*' || p[i] == '?';
    if (memchr(p, '/', n) != NULL)
        return "expected a pattern for names, found one with a slash";
    if (wild == n)
        return "expected a pattern with a letter in it; for all that is made in a directory set its attribute " REC_XATTR_NOHISTORY;
    if (n > REC_NAME_MAX || p[n - 1] == '\\')
        return "no name can match it";
    return NULL;
}

int nohistory_check(const char *value, char *norm, size_t cap, struct err *err)
{
    size_t len = 0;
    for (const char *p = value + strspn(value, " "), *end; *p != '\0'; p = end + strspn(end, " ")) {
        end = p + strcspn(p, " ");
        const size_t n = (size_t)(end - p);
        const char *wrong = pattern_wrong(p, n);
        if (wrong != NULL)
            return err_set(err, ERR_USAGE, "nohistory %.*s: %s", (int)(n < 64 ? n : 64), p, wrong);
        if (len + n + 2 > cap || len + n + 1 > NOHISTORY_MAX)
            return err_set(err, ERR_USAGE, "nohistory: expected at most %d bytes", NOHISTORY_MAX);
        if (len > 0)
            norm[len++] = ' ';
        memcpy(norm + len, p, n);
        len += n;
    }
    norm[len] = '\0';
    return 0;
}

void nohistory_set(struct nohistory *n, const char *value)
{
    char norm[NOHISTORY_MAX + 1];
    size_t len = 0;
    memset(n, 0, sizeof *n);
    if (value == NULL || nohistory_check(value, norm, sizeof norm, NULL) < 0)
        return;
    for (const char *p = norm; *p != '\0';) {
        const size_t word = strcspn(p, " ");
        if (word == sizeof NOHISTORY_TAG - 1 && memcmp(p, NOHISTORY_TAG, word) == 0) {
            n->tags = true;
        } else {
            memcpy(n->text + len, p, word);
            len += word + 1;             /* zeros are behind it */
        }
        p += word + strspn(p + word, " ");
    }
}

bool nohistory_has(const struct nohistory *n, const char *name, size_t nlen)
{
    char text[REC_NAME_MAX + 1];
    if (n->text[0] == '\0' || nlen > REC_NAME_MAX)
        return false;
    memcpy(text, name, nlen);
    text[nlen] = '\0';
    for (const char *p = n->text; *p != '\0'; p += strlen(p) + 1)
        if (fnmatch(p, text, 0) == 0)
            return true;
    return false;
}

/* ---- in words ---- */

/* Of the directory that ${dir} bytes of the path lead to, and what is behind them. */
static void say(const char *path, size_t dir, bool attr, const char *name, size_t nlen, struct err *err)
{
    const int d = dir > 0 ? (int)dir : 1;
    const char *in = dir > 0 ? path : "/";
    if (attr)
        err_set(err, ERR_NOENT, "%.200s: no history is kept of it: %.*s has the attribute " REC_XATTR_NOHISTORY "; without it (setfattr -x) what is made there from then "
                "on, or renamed, has one", path, d, in);
    else
        err_set(err, ERR_NOENT, "%.200s: no history is kept of it: \"%.*s\" was made under a name that the setting nohistory has (spare retain show), or in a directory "
                "that kept none; a copy under another name has one", path, (int)nlen, name);
}

static bool by_name(struct store *s, const char *name, size_t nlen)
{
    pthread_mutex_lock(&s->lock);
    bool has = nohistory_has(&s->nohistory, name, nlen);
    pthread_mutex_unlock(&s->lock);
    return has;
}

int nohistory_explain(struct store *s, const char *path, struct err *err)
{
    const char *p = path, *name;
    struct row_den den = { .ino = INO_ROOT };
    struct row_ino dir;
    size_t len, upto = 0;                /* of the directory, in the path */
    while (store_getattr(s, AT_LIVE, den.ino, &dir, NULL) == 0 && S_ISDIR(dir.mode) && path_next(&p, &name, &len)) {
        bool attr = (dir.flags & INOF_NOHISTORY) != 0;
        int rc = len <= REC_NAME_MAX ? read_den(s, den.ino, name, len, &den) : ERR_NAMETOOLONG;
        if (rc == ERR_NOENT && (attr || by_name(s, name, len))) {
            say(path, upto, attr, name, len, err);
            return 2;
        }
        if (rc < 0)
            return 0;
        if (den.hidden) {
            say(path, upto, attr, name, len, err);
            return 1;
        }
        upto = (size_t)(p - path);
    }
    return 0;
}

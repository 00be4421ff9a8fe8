#include "cli/init.h"

#include "cli/locate.h"
#include "store/core/store.h"
#include "store/svc/svc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEEP_FREE_MOST (50ull << 30)

/* The time zone of this machine, as far as it has a name. */
static void local_zone(char *buf, size_t cap)
{
    char link[300], norm[300];
    const char *tz = getenv("TZ"), *name = NULL;
    ssize_t n = readlink("/etc/localtime", link, sizeof link - 1);

    if (tz && *tz) {
        name = *tz == ':' ? tz + 1 : tz;
    } else if (n > 0) {
        link[n] = '\0';
        name = strstr(link, "/zoneinfo/");
        name = name ? name + strlen("/zoneinfo/") : NULL;
    }
    if (!name || svc_setting_check("timezone", name, norm, sizeof norm, NULL))
        name = "UTC";
    snprintf(buf, cap, "%s", name);
}

static int choose(struct io *io, struct init_choice *c, struct err *err)
{
    struct io_space_info sp;
    char norm[300];
    int r;

    if (!c->timezone[0])
        local_zone(c->timezone, sizeof c->timezone);
    r = svc_setting_check("timezone", c->timezone, norm, sizeof norm, err);
    if (r)
        return r;
    r = io_space(io, &sp, err);
    if (r)
        return r;
    if (!c->history_max)
        c->history_max = sp.avail / 2;
    if (!c->keep_free)
        c->keep_free = sp.total / 10 < KEEP_FREE_MOST ? sp.total / 10 : KEEP_FREE_MOST;
    return 0;
}

int init_store(const char *dir, struct init_choice *c, struct err *err)
{
    struct place inside;
    struct store_init in = { .root_uid = geteuid(), .root_gid = getegid(), .root_mode = 0755 };
    struct io *io = NULL;
    struct store *s = NULL;
    bool made = false;
    char *abs = locate_absolute(dir, err);
    int r;

    if (!abs)
        return ERR_NOMEM;
    if (locate_path(NULL, abs, &inside, NULL) == 0 && inside.mount) {
        r = err_set(err, ERR_USAGE, "%s: expected a place outside of any spare mount, found one in %s; a store inside its own mount "
                    "could never be read without it", dir, inside.mount);
        locate_release(&inside);
        goto out;
    }
    locate_release(&inside);
    if (mkdir(abs, 0700) == 0) {
        made = true;
    } else if (errno != EEXIST) {
        r = err_from_errno(err, errno, "%s: making the store's directory", dir);
        goto out;
    }
    r = io_posix_new(abs, &io, err);
    if (r == 0)
        r = choose(io, c, err);
    if (r == 0) {
        in.timezone = c->timezone;
        in.history_max = c->history_max;
        in.keep_free = c->keep_free;
        r = store_create(io, abs, &in, err);
    }
    /* Opened once, so that the index is there for commands that may only read. */
    if (r == 0) {
        r = store_open(io, abs, &(struct store_options){ .writable = true, .threads = true }, &s, NULL, err);
        if (r == 0)
            r = store_close(s, err);
    }
    if (io)
        io->ops->free(io);
    /* Only if nothing came to lie in it. */
    if (r && made)
        (void)rmdir(abs);
out:
    free(abs);
    return r;
}

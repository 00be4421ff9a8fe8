/*
 * mount.h: mounting a store, as the commands see it, and the primitives the supervisor uses.
 *
 * A mount is two processes: the supervisor keeps /dev/fuse and the shared memory, the worker holds the store
 * and answers requests (DESIGN.md). Whoever calls fs_mount sees neither.
 */
#ifndef FS_MOUNT_H
#define FS_MOUNT_H

#include "store/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FS_SNAPDIR_DEFAULT ".snapshots"
#define FS_SUBTYPE "spare"            /* the mount's type is fuse.spare */
#define FS_SUBTYPE_PAST "spare-past"  /* that of the read-only session of the past: fuse.spare-past */

enum fs_past { FS_PAST_OWNER = 0, FS_PAST_ALL, FS_PAST_OFF };

/* Borrowed strings; they must live until fs_mount returns. */
struct fs_options {
    const char *store;         /* the store's directory */
    const char *dir;           /* the mount point */
    bool foreground;           /* do not detach; messages to stderr */
    bool allow_other;          /* other users too; fs_options_init sets it when root */
    bool read_only;            /* the store is not written to */
    bool standby;              /* the store was not the primary when it was mounted, so the kernel was told to refuse changes; fs_mount finds out */
    bool nonempty;             /* accept a mount point with entries */
    bool remount;              /* change what the kernel allows there, nothing else: fs_remount */
    bool mode_said;            /* ro or rw was named */
    bool writeback;            /* the kernel merges writes and owns size and mtime */
    bool fsync_ordered;        /* fsync returns at once; crashes still leave an exact prefix */
    bool nosuid, nodev;        /* as of mount(8); implied for an ordinary user */
    bool noexec;
    enum fs_past past;         /* who sees the past */
    char snapdir[256];         /* name of the past in each directory; FS_SNAPDIR_DEFAULT */
    uint64_t memory_bytes;     /* 0: the store's default */
    uint32_t spin_us;          /* longest spin for the next request; UINT32_MAX: default */
    uint32_t location;         /* enum store_location: --moved, --copied */
    char fsname[4096];         /* what df(1) shows; the store's path where empty */
    char log_file[4096];       /* messages of a detached mount; syslog where empty */
};

/* fs_options_init(o): defaults. */
void fs_options_init(struct fs_options *o);

/*
 * fs_options_parse(o, text, err):
 * Take over a comma-separated list as after -o: of mount(8), fstab or the command line. Known:
 * ro rw allow_other past=owner|all|off snapdir=NAME writeback fsync=ordered|durable memory=SIZE[KMG] spin_us=N
 * fsname=TEXT nonempty remount nosuid suid nodev dev noexec exec log=FILE moved copied; ignored as fstab's or the kernel's own business:
 * defaults auto noauto user nouser users owner group _netdev nofail async atime noatime relatime strictatime nodiratime
 * user_id=* group_id=* x-*, comment=*. Empty items are skipped. May be called several times.
 * Errors: USAGE naming the option and what is accepted; ${o} then holds what came before it.
 */
int fs_options_parse(struct fs_options *o, const char *text, struct err *err);

/* fs_options_text(o, buf, cap): what fs_options_parse makes the same of, but for location and what is not of -o. USAGE: too long. */
enum { FS_OPTIONS_TEXT_MAX = 10000 };
int fs_options_text(const struct fs_options *o, char *buf, size_t cap);

/* fs_resume(o, handed, err): `spare mount --resume`: this process is the supervisor of a mount, and was another program until now
 * (supervisor.h). Returns when the mount has ended. */
int fs_resume(const struct fs_options *o, const char *handed, struct err *err);
/* fs_layout(): the layout of memory that a mount's processes share; a program of another one cannot take a running mount over. */
unsigned fs_layout(void);

/*
 * fs_mount(o, err):
 * Mount. Returns when the mount serves (or, in the foreground, when it has ended).
 * A mount point whose daemon is gone is cleared first. The mount point below loses its write bits, so that nothing is
 * written beside history while the store is not mounted.
 * Errors: USAGE the mount point is the store, inside it, or holds it; NOENT, NOTDIR, NOTEMPTY the mount point; BUSY something
 * is mounted there; LOCKED the store is in use (by whom); ACCES; those of store_open.
 * Threads: call with one thread only (it forks).
 */
int fs_mount(const struct fs_options *o, struct err *err);

/*
 * fs_remount(o, err): at o->dir the kernel refuses every change, or does so no more, as o->read_only says where o->mode_said; nosuid, nodev and noexec are
 * added. What is open for writing there keeps it from becoming read-only. The store's own mode stays. Errors: NOENT no spare is mounted there; BUSY; PERM.
 */
int fs_remount(const struct fs_options *o, struct err *err);

/*
 * fs_umount(dir, lazy, wait_ms, err):
 * Unmount ${dir}, the past in it first, and wait at most ${wait_ms} until the store is closed and free to be mounted again.
 * With ${lazy} it is taken out of the tree at once, even if busy.
 * Errors: NOENT no spare is mounted there; BUSY in use, or not closed in time; PERM; IO.
 */
int fs_umount(const char *dir, bool lazy, uint32_t wait_ms, struct err *err);

/* A mounted spare. */
struct fs_mounted {
    char dir[4096];      /* mount point, as the kernel names it */
    char source[4096];   /* fsname: the store's path unless the user chose another */
    uint64_t dev;        /* st_dev of what is in it */
    bool past;           /* the read-only session of the past, not the live tree */
    bool read_only;
};

/*
 * fs_mounted_at(path, out): is ${path} a mount point of a spare? The topmost mount counts. ERR_NOENT if not. Sends no request.
 * fs_mounted_each(fn, arg): all spares of this mount name space, in the kernel's order; stops at nonzero and returns it.
 */
int fs_mounted_at(const char *path, struct fs_mounted *out);
int fs_mounted_each(int (*fn)(void *arg, const struct fs_mounted *m), void *arg);
/* fs_mounted_store(store, out): where that store, an absolute path without symlinks, is mounted live. NOENT nowhere here. ${out}: NULL,
 * where only that is asked. Sends no request. */
int fs_mounted_store(const char *store, struct fs_mounted *out);

/* ---- for the supervisor ---- */

struct fuse_session;

/*
 * mount_check(o, err): the checks of fs_mount that need no store; clears a dead mount.
 */
int mount_check(const struct fs_options *o, struct err *err);

/*
 * mount_open(o, dir, past, se, err):
 * Mount at ${dir}, by mount(2) or fusermount3. Returns the descriptor of /dev/fuse; *${se} is a session without handlers that owns
 * it (fuse_session_fd) and exists to be unmounted by mount_take_down. Errors: PERM, IO with libfuse's words on stderr.
 */
int mount_open(const struct fs_options *o, const char *dir, bool past, struct fuse_session **se, struct err *err);

/* mount_past_dir(o, buf, cap, err): where the session of the past is mounted, making it if missing: spare/ID below /run (root),
 * $XDG_RUNTIME_DIR, /run/user/UID or .local/state at home: directories nobody else can write to. ID stands for the mount point, so
 * that whoever unmounts that knows it too. Never looks at the directory itself: the caller may be who has to answer. Errors: NOENT no
 * place; PERM it is another's.
 * mount_past_done(o): removes what it made. */
int mount_past_dir(const struct fs_options *o, char *buf, size_t cap, struct err *err);
void mount_past_done(const struct fs_options *o);

/*
 * mount_turn(o, m, writable, err): the mount ${m} at o->dir lets changes through from here on, or does so no more; nosuid and nodev as a mount made now would have them. As root. Asks the
 * mount itself. Errors: PERM not root; BUSY a file is open for writing, or something else is mounted over it.
 */
int mount_turn(const struct fs_options *o, const struct fs_mounted *m, bool writable, struct err *err);

/* mount_take_down(dir, lazy, err): unmount one mount point; umount2 or fusermount3. BUSY, PERM, NOENT, IO. */
int mount_take_down(const char *dir, bool lazy, struct err *err);

#endif

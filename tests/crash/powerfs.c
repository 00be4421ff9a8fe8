/*
 * powerfs: an in-memory file system that loses what was not synced.
 *
 *   powerfs [-f] [--ext4-like] --ctl=SOCKET MOUNTPOINT
 *   powerfs --client=SOCKET COMMAND [ARGUMENT...]
 *
 * See README.md for the model and the commands.
 */
#define FUSE_USE_VERSION 312
#include "tests/crash/powerfs.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int usage(void)
{
    fputs("usage: powerfs [-f] [--ext4-like] --ctl=SOCKET MOUNTPOINT\n"
          "       powerfs --client=SOCKET COMMAND [ARGUMENT...]\n",
          stderr);
    return 2;
}

/* Mount, serve until unmounted; 0 or 1. */
static int run(struct pf_fs *fs, const char *mountpoint, int listen_fd, bool foreground)
{
    char name[] = "powerfs", opt[] = "-o", root[] = "fsname=powerfs,subtype=powerfs,"
                                                    "default_permissions,allow_other";
    char user[] = "fsname=powerfs,subtype=powerfs,default_permissions";
    char *argv[] = { name, opt, geteuid() == 0 ? root : user, NULL };
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    int rc = 1;
    struct fuse_session *se = fuse_session_new(&args, &pf_ops, sizeof(pf_ops), fs);
    if (se == NULL)
        goto out;
    if (fuse_set_signal_handlers(se) != 0)
        goto out_session;
    if (fuse_session_mount(se, mountpoint) != 0)
        goto out_signals;
    /* Threads only after the fork; the parent leaves with everything ready. */
    if (fuse_daemonize(foreground) == 0 && pf_ctl_serve(fs, listen_fd) == 0)
        rc = fuse_session_loop(se) == 0 ? 0 : 1;
    fuse_session_unmount(se);
out_signals:
    fuse_remove_signal_handlers(se);
out_session:
    fuse_session_destroy(se);
out:
    fuse_opt_free_args(&args);
    return rc;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "ctl", required_argument, NULL, 'c' },
        { "client", required_argument, NULL, 'k' },
        { "ext4-like", no_argument, NULL, 'e' },
        { NULL, 0, NULL, 0 },
    };
    static struct pf_fs fs;
    const char *ctl = NULL, *client = NULL;
    bool foreground = false, ext4_like = false;
    int opt;
    while ((opt = getopt_long(argc, argv, "+f", options, NULL)) != -1) {
        switch (opt) {
        case 'c': ctl = optarg; break;
        case 'k': client = optarg; break;
        case 'e': ext4_like = true; break;
        case 'f': foreground = true; break;
        default: return usage();
        }
    }
    if (client != NULL)
        return optind < argc ? pf_ctl_client(client, argc - optind, argv + optind) : usage();
    if (ctl == NULL || optind + 1 != argc)
        return usage();
    pf_fs_init(&fs);
    fs.img->ext4_like = ext4_like;
    struct pf_inode *root = pf_inode_get(fs.img, PF_ROOT_INO);
    root->attr.uid = root->dattr.uid = geteuid();
    root->attr.gid = root->dattr.gid = getegid();
    signal(SIGPIPE, SIG_IGN);
    int fd = pf_ctl_listen(ctl);
    if (fd < 0) {
        fprintf(stderr, "powerfs: %s: %s\n", ctl, strerror(-fd));
        return 1;
    }
    /* Control threads may still run: the image goes with the process. */
    int rc = run(&fs, argv[optind], fd, foreground);
    unlink(ctl);
    return rc;
}

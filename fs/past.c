/* To be replaced: the past is not served yet. */
#include "fs/past.h"

bool past_wanted(const struct fs_options *o) { (void)o; return false; }
int past_start(struct fs *fs, int fd, struct err *err)
{
    (void)fs; (void)fd;
    return err_set(err, ERR_NOTSUP, "the past is not served");
}
void past_stop(struct past *p) { (void)p; }

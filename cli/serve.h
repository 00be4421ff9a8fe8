/* serve.h: what `spare serve` and `spare sync --from` share: receiving where no store is yet. */
#ifndef CLI_SERVE_H
#define CLI_SERVE_H

#include "store/sync/link.h"

/*
 * serve_receive_new(dir, in, out, opt, info, err): link_receive into a standby that is made at ${dir}, empty or missing; its parent is there. While it receives
 * commands can ask it. What began and did not come to a standby leaves no directory that was not there before. Errors: as link_receive; AWAY: the parent is gone, NOTDIR.
 */
int serve_receive_new(const char *dir, int in, int out, const struct link_receive_options *opt, struct link_info *info, struct err *err);

#endif

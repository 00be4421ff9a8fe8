/*
 * link.h: links that acknowledge: http://ADDRESS/ack/TOKEN, by libmicrohttpd, while a run waits for somebody. A GET shows a page with a button (programs that look at mails follow links), the button's POST
 * acknowledges, once. There is nothing else to be had, and a token is 128 random bits; who needs more puts a proxy in front, or uses the command.
 * Threads: none of its own: link_serve does the work.
 */
#ifndef CLI_DR_LINK_H
#define CLI_DR_LINK_H

#include "store/base/err.h"

#include <stdint.h>

struct link_server;

/* What a token is for: LINK_OPEN (${about}: what the page says), LINK_USED, LINK_UNKNOWN. */
enum link_token { LINK_OPEN, LINK_USED, LINK_UNKNOWN };
struct link_hooks {
    enum link_token (*look)(void *arg, const char *token, char *about, unsigned long cap);
    int (*ack)(void *arg, const char *token);        /* of one that is open; 0: it counts, durably */
    void *arg;
};

/* link_start(listen, h, out, err): "ADDRESS:PORT", IPv4 or [IPv6]. Errors: USAGE; BUSY the port is taken, or not ours. */
int  link_start(const char *listen, const struct link_hooks *h, struct link_server **out, struct err *err);
/* link_serve(s, ms): answers what comes within that time. NULL: waits. */
void link_serve(struct link_server *s, unsigned ms);
void link_stop(struct link_server *s);

#endif

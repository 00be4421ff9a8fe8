/* channel.h: one message, by one channel, to one address. */
#ifndef CLI_DR_CHANNEL_H
#define CLI_DR_CHANNEL_H

#include "cli/dr/plan.h"

struct letter {
    const char *id;             /* no other letter has it: Message-ID, and for whoever must tell two from one */
    const char *event, *subject, *text, *person, *link;
    const char *plan, *run;
    bool dry;                   /* a trial: the channel's command gets SPARE_DRY=1, a webhook "dry": true; mail is not sent, only its program looked for */
};

/*
 * channel_send(c, address, l, log, err): a command gets the text on stdin, and SPARE_TO, SPARE_SUBJECT, SPARE_PERSON, SPARE_LINK, SPARE_EVENT, SPARE_ID; mail goes through a program with sendmail's interface (/usr/sbin/sendmail
 * unless the channel names another); a webhook is a POST of JSON; a heartbeat a GET. ${log}: a file for what commands say.
 * Errors: AWAY: it was not taken; whether the other end has it all the same nobody knows.
 */
int channel_send(const struct plan_channel *c, const char *address, const struct letter *l, const char *log, struct err *err);

#endif

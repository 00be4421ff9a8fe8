/* web.h: one request by HTTP, by libcurl. */
#ifndef CLI_DR_WEB_H
#define CLI_DR_WEB_H

#include "store/base/err.h"

/* web_send(url, json, timeout_ms, err): POST ${json}, or GET where it is NULL. 0 for an answer of 2xx. Redirects are not followed; http and https only. Errors: AWAY not reached, or another answer. */
int web_send(const char *url, const char *json, long timeout_ms, struct err *err);

#endif

/*
 * seal.h: a site's Ed25519 key, SHA-256, random tokens. Keys and signatures are base64, hashes hex.
 */
#ifndef CLI_DR_SEAL_H
#define CLI_DR_SEAL_H

#include "store/base/err.h"

#include <stddef.h>

enum { SEAL_HASH_TEXT = 65, SEAL_KEY_TEXT = 45, SEAL_SIG_TEXT = 89, SEAL_TOKEN_TEXT = 33 };

struct seal;

/* seal_open(dir, out, err): the key in dir/site.key (raw, mode 0600), made where there is none, its public half in dir/site.pub. Errors: IO, ACCES, DAMAGE a file that is no key, NOMEM. */
int  seal_open(const char *dir, struct seal **out, struct err *err);
void seal_close(struct seal *s);
const char *seal_public(const struct seal *s);
/* seal_sign(s, p, len, sig, err). seal_verify: false also for what is no key, or no signature. */
int  seal_sign(const struct seal *s, const void *p, size_t len, char sig[SEAL_SIG_TEXT], struct err *err);
bool seal_verify(const char *public, const void *p, size_t len, const char *sig);

void seal_hash(const void *p, size_t len, char hex[SEAL_HASH_TEXT]);
/* seal_token(hex, err): 128 bits nobody guesses. */
int  seal_token(char hex[SEAL_TOKEN_TEXT], struct err *err);

#endif

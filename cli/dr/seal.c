#include "cli/dr/seal.h"

#include "store/base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { KEY_BYTES = 32, SIG_BYTES = 64 };

struct seal { EVP_PKEY *key; char public[SEAL_KEY_TEXT]; };

void seal_hash(const void *p, size_t len, char hex[SEAL_HASH_TEXT])
{
    unsigned char h[32] = { 0 };

    /* Without it nothing can be proven: what follows then matches nothing. */
    (void)EVP_Digest(p, len, h, NULL, EVP_sha256(), NULL);
    hex_put(hex, h, sizeof h);
}

int seal_token(char hex[SEAL_TOKEN_TEXT], struct err *err)
{
    unsigned char b[16];

    if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b)
        return err_from_errno(err, errno, "getrandom");
    hex_put(hex, b, sizeof b);
    return 0;
}

/* What is there, or a new one, complete under its name or not at all: two that make one at the same time end with the same. */
static int key_bytes(const char *dir, unsigned char k[KEY_BYTES], struct err *err)
{
    char path[PATH_MAX], tmp[PATH_MAX + 16];
    int fd, r = 0;

    snprintf(path, sizeof path, "%s/site.key", dir);
    for (int tries = 0; tries < 2; tries++) {
        ssize_t n;

        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            char more;

            n = read(fd, k, KEY_BYTES);
            if (n != KEY_BYTES || read(fd, &more, 1) != 0)
                r = err_set(err, ERR_DAMAGE, "%s: expected a key of %d bytes, found something else", path, KEY_BYTES);
            close(fd);
            return r;
        }
        if (errno != ENOENT)
            return err_from_errno(err, errno, "%s", path);
        snprintf(tmp, sizeof tmp, "%s.%d", path, (int)getpid());
        fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
            return err_from_errno(err, errno, "%s", tmp);
        if (getrandom(k, KEY_BYTES, 0) != KEY_BYTES || write(fd, k, KEY_BYTES) != KEY_BYTES || fsync(fd))
            r = err_from_errno(err, errno, "%s", tmp);
        close(fd);
        if (r == 0 && link(tmp, path) && errno != EEXIST)
            r = err_from_errno(err, errno, "%s", path);
        (void)unlink(tmp);
        if (r)
            return r;
    }
    return err_set(err, ERR_IO, "%s: expected a key after it was made, found none", path);
}

static void write_public(const char *dir, const char *public)
{
    char path[PATH_MAX];
    FILE *f;

    snprintf(path, sizeof path, "%s/site.pub", dir);
    if (access(path, F_OK) == 0)
        return;
    f = fopen(path, "we");
    if (f) {
        fprintf(f, "%s\n", public);
        fclose(f);
    }
}

int seal_open(const char *dir, struct seal **out, struct err *err)
{
    unsigned char k[KEY_BYTES], pub[KEY_BYTES];
    size_t n = sizeof pub;
    struct seal *s;
    int r = key_bytes(dir, k, err);

    if (r)
        return r;
    s = calloc(1, sizeof *s);
    if (s)
        s->key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, k, sizeof k);
    explicit_bzero(k, sizeof k);
    if (!s || !s->key || EVP_PKEY_get_raw_public_key(s->key, pub, &n) != 1) {
        seal_close(s);
        return err_set(err, ERR_NOMEM, "%s: the key cannot be used", dir);
    }
    EVP_EncodeBlock((unsigned char *)s->public, pub, sizeof pub);
    write_public(dir, s->public);
    *out = s;
    return 0;
}

void seal_close(struct seal *s)
{
    if (!s)
        return;
    EVP_PKEY_free(s->key);
    free(s);
}

const char *seal_public(const struct seal *s)
{
    return s->public;
}

int seal_sign(const struct seal *s, const void *p, size_t len, char sig[SEAL_SIG_TEXT], struct err *err)
{
    unsigned char b[SIG_BYTES];
    size_t n = sizeof b;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool ok = c && EVP_DigestSignInit(c, NULL, NULL, NULL, s->key) == 1 && EVP_DigestSign(c, b, &n, p, len) == 1;

    EVP_MD_CTX_free(c);
    if (!ok)
        return err_set(err, ERR_IO, "signing failed");
    EVP_EncodeBlock((unsigned char *)sig, b, sizeof b);
    return 0;
}

/* Exactly ${bytes} of base64. */
static bool decode(const char *text, unsigned char *out, size_t bytes)
{
    unsigned char buf[96], again[132];
    size_t len = 4 * ((bytes + 2) / 3);

    if (!text || strlen(text) != len || EVP_DecodeBlock(buf, (const unsigned char *)text, (int)len) < (int)bytes)
        return false;
    memcpy(out, buf, bytes);
    /* The last character has bits that say nothing: there is one way to write them. */
    EVP_EncodeBlock(again, buf, (int)bytes);
    return strcmp((char *)again, text) == 0;
}

bool seal_verify(const char *public, const void *p, size_t len, const char *sig)
{
    unsigned char pub[KEY_BYTES], b[SIG_BYTES];
    EVP_PKEY *key = NULL;
    EVP_MD_CTX *c = NULL;
    bool ok = false;

    if (!decode(public, pub, sizeof pub) || !decode(sig, b, sizeof b))
        return false;
    key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, pub, sizeof pub);
    c = EVP_MD_CTX_new();
    ok = key && c && EVP_DigestVerifyInit(c, NULL, NULL, NULL, key) == 1 && EVP_DigestVerify(c, b, sizeof b, p, len) == 1;
    EVP_MD_CTX_free(c);
    EVP_PKEY_free(key);
    return ok;
}

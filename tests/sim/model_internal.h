/* model_internal.h: shared by the model's own files. */
#ifndef TESTS_SIM_MODEL_INTERNAL_H
#define TESTS_SIM_MODEL_INTERNAL_H

#include "tests/sim/model.h"

void mdata_write(struct mino *i, uint64_t off, const uint8_t *buf, size_t len);
void mdata_zero(struct mino *i, uint64_t from, uint64_t to);
void mdata_resize(struct mino *i, uint64_t size);
void mdata_clone(struct mino *dst, uint64_t dst_off, const struct mino *src, uint64_t src_off, uint64_t len);

/* model_out/model_in around every change of an object: its share leaves the digest, then comes back. */
void model_out(struct model *m, const struct mino *i);
void model_in(struct model *m, const struct mino *i);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes as requests to a file system over a small index, for the fuzz target
 * and for the samples: one byte says how many bytes of the index are changed
 * first (low two bits; each is an offset of two bytes and a value), the rest
 * are requests as they come from the device, one behind the other.
 */
#pragma once

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "loader/fs_int.h"
#include "runtime/base/mem.h"
#include "runtime/base/util.h"

#define DRIVE_PAYLOAD 65536

struct drive_req {
	struct ld_fs_req fr;
	int replies, frees, error;
	size_t len;
};

static inline void drive_reply(struct ld_fs_req *r, int error, size_t len)
{
	struct drive_req *q = container_of(r, struct drive_req, fr);

	q->replies++;
	q->error = error;
	q->len = len;
}

static inline void drive_free(struct ld_fs_req *r)
{
	container_of(r, struct drive_req, fr)->frees++;
}

static inline void drive_add(struct ld_tree *t, const char *path, uint32_t mode)
{
	struct ld_attr a = {.mode = mode};
	struct ld_inode *i;

	if (ld_tree_add(t, path, strlen(path), &a, &i, NULL) < 0)
		abort();
	if (S_ISREG(mode))
		i->size = 100000; /* a hole */
	if (S_ISLNK(mode) && ld_tree_set_symlink(t, i, "f", 1, NULL) < 0)
		abort();
	if (S_ISDIR(mode) &&
		ld_tree_set_xattr(t, i, "user.x", 6, "value", 5, NULL) < 0)
		abort();
}

/* Made once, never given back. */
static inline const struct buf *drive_index(void)
{
	static struct buf bytes;
	struct ld_tree *t;
	char path[32];
	int i;

	if (bytes.len)
		return &bytes;
	if (ld_tree_create(&t) < 0)
		abort();
	drive_add(t, "", S_IFDIR | 0755);
	drive_add(t, "f", S_IFREG | 0644);
	drive_add(t, "l", S_IFLNK | 0777);
	drive_add(t, "d", S_IFDIR | 0755);
	for (i = 0; i < 300; i++) {
		(void)snprintf(path, sizeof(path), "d/entry-%03d", i);
		drive_add(t, path, S_IFREG | 0600);
	}
	buf_init(&bytes, 0);
	if (ld_index_write(t, 12, &bytes, NULL) < 0)
		abort();
	ld_tree_destroy(t);
	return &bytes;
}

static const struct ld_fs_req_ops drive_ops = {drive_reply, drive_free};

/* One request; what must hold for every one is checked. The reply's error. */
static inline int drive_one(
	struct ld_fs *fs, const struct fw_in_header *h, const uint8_t *body)
{
	struct ld_fs_counters counters = {0};
	struct drive_req q = {
		.fr = {.fs = fs, .ops = &drive_ops, .counters = &counters}};
	uint8_t *out = NULL;
	int rc = ld_fs_decode(&q.fr, h, body, h->len - sizeof(*h));

	if (rc < 0) {
		ld_fs_finish(&q.fr, rc, 0);
	} else {
		if (q.fr.out_need == 0 || q.fr.out_need > LD_FS_MAX_READ)
			abort();
		out = mem_alloc(q.fr.out_need);
		if (!out)
			abort();
		q.fr.out = out;
		q.fr.out_cap = q.fr.out_need;
		ld_fs_run(&q.fr);
	}
	if (q.frees != 1 || q.replies != !q.fr.no_reply || q.error > 0 ||
		q.error <= -512 || (rc == 0 && q.len > q.fr.out_need))
		abort();
	mem_free(out);
	return q.error;
}

/*
 * The same request as a ring brings it: the argument apart, the name in the
 * memory of the reply. Where a name follows no argument, or one of 8 bytes, the
 * answer must be the same.
 */
static inline void drive_ring(struct ld_fs *fs, const struct fw_in_header *h,
	const uint8_t *bytes, int want)
{
	struct ld_fs_counters counters = {0};
	struct drive_req q = {
		.fr = {.fs = fs, .ops = &drive_ops, .counters = &counters}};
	size_t len = h->len - sizeof(*h), arg = 0;
	struct fw_uring_head head = {0};
	uint8_t *payload;
	int rc;

	if (h->opcode == FW_GETXATTR)
		arg = min_u64(len, sizeof(struct fw_getxattr_in));
	memcpy(head.op_in, bytes, min_u64(len, sizeof(head.op_in)));
	payload = mem_zalloc(DRIVE_PAYLOAD);
	if (!payload)
		abort();
	len = min_u64(len - arg, DRIVE_PAYLOAD);
	memcpy(payload, bytes + arg, len);
	q.fr.out = payload;
	q.fr.out_cap = DRIVE_PAYLOAD;
	rc = ld_fs_decode_ring(&q.fr, h, &head, payload, len);
	if (rc == 0 && q.fr.out_need > DRIVE_PAYLOAD)
		rc = -EIO;
	if (rc < 0)
		ld_fs_finish(&q.fr, rc, 0);
	else
		ld_fs_run(&q.fr);
	if (q.frees != 1 || q.replies != !q.fr.no_reply)
		abort();
	if (h->opcode == FW_LOOKUP && q.error != want)
		abort();
	mem_free(payload);
}

/* All of them; the last reply's error. */
static inline int drive(const uint8_t *data, size_t size)
{
	const struct buf *index = drive_index();
	struct ld_image image = {.bytes_total = 1};
	uint8_t *copy = mem_alloc(index->len);
	struct rd r = rd_over(data, size);
	struct fw_in_header h;
	const uint8_t *bytes;
	struct ld_fs fs;
	unsigned changes, at;
	int rc = 0;

	if (!copy)
		abort();
	memcpy(copy, index->data, index->len);
	for (changes = rd_u8(&r) & 3; changes; changes--) {
		at = rd_u16(&r);
		/* The superblock has a checksum; behind it nothing does. */
		if (at >= 4096 && at < index->len)
			copy[at] = rd_u8(&r);
	}
	if (ld_index_from_bytes(copy, index->len, &image.index, NULL) < 0) {
		mem_free(copy);
		return -EPROTO;
	}
	ld_fs_init(&fs, &image);
	while (rd_left(&r) >= sizeof(h)) {
		memcpy(&h, rd_bytes(&r, sizeof(h)), sizeof(h));
		h.len = (uint32_t)(sizeof(h) +
				   min_u64(rd_left(&r),
					   h.len > sizeof(h) ? h.len - sizeof(h)
							     : 0));
		bytes = rd_bytes(&r, h.len - sizeof(h));
		rc = drive_one(&fs, &h, bytes);
		drive_ring(&fs, &h, bytes, rc);
	}
	ld_fs_fini(&fs);
	ld_index_close(&image.index);
	mem_free(copy);
	return rc;
}

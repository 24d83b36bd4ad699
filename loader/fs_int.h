/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the file system: what fs.c, fs_meta.c, fs_read.c, fs_held.c
 * share with the transports and with the session.
 *
 * The way of a request: a transport reads its bytes, ld_fs_decode() says what
 * it is and how much room its reply may need, the transport gives that room,
 * ld_fs_run() answers it: at once through ops->reply, or later from the
 * completion of its reads, on the same worker. After the reply ops->free gives
 * the request back to the transport. ON_WORKER, that of the request, unless it
 * says otherwise.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "loader/fs.h"
#include "loader/fuse_wire.h"
#include "runtime/base/list.h"

#define LD_FS_MAX_READ (1u << 20) /* bytes of one request */
#define LD_FS_MAX_WRITE 4096      /* the least the kernel takes */
/*
 * What a silent source keeps waiting must not be all that can wait: so many
 * requests for each worker, and three quarters as many that nobody waits for
 * one by one: read-ahead, and all reads of EROFS. The rest is for lookups.
 */
#define LD_FS_MAX_WAITING 1024
#define LD_FS_VALID_S UINT32_MAX /* seconds; nothing ever changes */
#define LD_FS_SMALL_REPLY 256    /* what fixed-size replies need */
#define LD_FS_READ_PARTS 4       /* blob reads at a time per request */
#define LD_FS_HELD_BUCKETS 64
#define LD_FS_EARLY_INTERRUPTS 64

struct ld_fs;
struct ld_fs_req;

/* Written by one worker, read by all. */
struct ld_fs_counters {
	_Atomic uint64_t requests, reads, read_bytes, read_errors;
};

/* What a transport does for a request; both ON_WORKER. */
struct ld_fs_req_ops {
	/* error: 0 or negative errno; len bytes of r->out are the payload. Not
	 * called for requests that have no reply. */
	void (*reply)(struct ld_fs_req *r, int error, size_t len);
	/* The file system has forgotten r. */
	void (*free)(struct ld_fs_req *r);
};

struct ld_fs_part {
	struct bc_read io;
	struct ld_fs_req *req;
	bool busy;
};

/* A READ on its way through the blobs (fs_read.c). */
struct ld_fs_read {
	struct ld_inode_view view;
	uint64_t off, pos, end; /* pos: what has not been started yet */
	unsigned in_flight;
	int error;
	struct ld_fs_part parts[LD_FS_READ_PARTS];
};

/* One request. The transport zeroes it, sets the first five and keeps it in
 * place until ops->free. */
struct ld_fs_req {
	struct ld_fs *fs;
	const struct ld_fs_req_ops *ops;
	struct rt_worker *worker; /* where it was read and is answered */
	struct ld_fs_counters *counters;
	struct list node; /* the transport's */

	/* set by ld_fs_decode */
	uint32_t opcode;
	bool no_reply;
	uint64_t unique, nodeid;
	union {
		struct fw_init_in init;
		struct fw_open_in open;
		struct fw_read_in read;
		struct fw_getxattr_in getxattr;
		struct fw_access_in access;
		struct fw_interrupt_in interrupt;
	} arg;
	const char *name; /* borrowed from the request's bytes until ld_fs_run
	                     returns; not NUL-terminated */
	size_t name_len;
	size_t out_need; /* the reply has at most so many bytes */

	/* set by the transport before ld_fs_run */
	uint8_t *out;
	size_t out_cap; /* >= out_need */

	/* being cancelled; ON_WORKER */
	int cancel_error; /* what to answer instead; 0: nobody asked */
	void (*on_cancel)(struct ld_fs_req *r); /* NULL: cannot be */

	/* under ld_fs.held.lock */
	struct list held_node;
	bool held, task_posted, is_over;
	struct rt_task cancel_task;

	struct ld_fs_read read;
};

/* Requests that are not answered yet, for INTERRUPT (fs_held.c). */
struct ld_fs_held {
	pthread_mutex_t lock; /* guards everything here */
	struct list buckets[LD_FS_HELD_BUCKETS];
	uint64_t early[LD_FS_EARLY_INTERRUPTS]; /* uniques not seen yet */
	unsigned early_next;
};

/* Const after the handshake, but for held. */
struct ld_fs {
	const struct ld_image *image; /* borrowed */
	bool serves_blobs;            /* files are blobs: blobfs.c */
	uint64_t inode_count;
	struct ld_fs_held held;
	uint64_t init_flags; /* as answered; set before any other request */
	bool init_done, init_failed;
	/* for INIT; set before it */
	bool wants_uring;  /* ask for FUSE over io_uring */
	uint32_t max_read; /* bytes, whole pages, at most LD_FS_MAX_READ */
	unsigned workers;
};

/* ---- fs.c ---- */

/* INIT_ONLY. */
void ld_fs_init(struct ld_fs *fs, const struct ld_image *image);
void ld_fs_fini(struct ld_fs *fs);

/*
 * What is this request? bytes are those behind the header; h->len has been
 * compared with them. 0, or the negative errno to answer: -ENOSYS (an opcode
 * we do not know), -EINVAL (too short, no name), -ENAMETOOLONG. r->unique and
 * r->no_reply are set in any case.
 */
int ld_fs_decode(struct ld_fs_req *r, const struct fw_in_header *h,
	const uint8_t *bytes, size_t len);
/*
 * The same for a request that came through a ring, its fixed argument in the
 * head, the rest in the payload, which has len bytes of it.
 */
int ld_fs_decode_ring(struct ld_fs_req *r, const struct fw_in_header *h,
	const struct fw_uring_head *head, const uint8_t *payload, size_t len);
/* Answer a decoded request. r may be gone when this returns. ON_WORKER. */
void ld_fs_run(struct ld_fs_req *r);
/* Answer r with error, or with len bytes of r->out. r may be gone. ON_WORKER.
 */
void ld_fs_finish(struct ld_fs_req *r, int error, size_t len);
/* End r early if that can be done: it is answered with error, soon, or at once.
 * ON_WORKER. */
void ld_fs_cancel(struct ld_fs_req *r, int error);
/* The errno that a reader sees for ours. */
int ld_fs_errno(int rc);

/* A handler's result: >= 0 bytes of payload, negative errno, or this. */
#define LD_FS_LATER INT64_MIN

/* Node ids: the root is 1, as the protocol wants; others keep clear of 0 and
 * 1. */
uint64_t ld_fs_node_of(const struct ld_fs *fs, uint64_t nid);
/* -EIO, -ESTALE. */
int ld_fs_inode(
	const struct ld_fs *fs, uint64_t nodeid, struct ld_inode_view *ret);

/* ---- fs_meta.c ---- */

/*
 * One opcode each: the answer goes behind the request's reply header; the value
 * is its length, or the negative errno to answer. ON_WORKER.
 */
int64_t ld_fs_lookup(struct ld_fs_req *r);
int64_t ld_fs_getattr(struct ld_fs_req *r);
int64_t ld_fs_readlink(struct ld_fs_req *r);
int64_t ld_fs_readdir(struct ld_fs_req *r); /* READDIRPLUS too */
int64_t ld_fs_getxattr(struct ld_fs_req *r);
int64_t ld_fs_listxattr(struct ld_fs_req *r);
int64_t ld_fs_statfs(struct ld_fs_req *r);
int64_t ld_fs_access(struct ld_fs_req *r);

/* ---- fs_read.c ---- */

/* The same; a read that has to wait gives -EINPROGRESS and answers later. */
int64_t ld_fs_open(struct ld_fs_req *r);
int64_t ld_fs_opendir(struct ld_fs_req *r);
int64_t ld_fs_read(struct ld_fs_req *r);

/* ---- blobfs.c ---- */

typedef int64_t ld_fs_handler(struct ld_fs_req *r);

/* Who answers opcode where files are blobs; tree: who does where they are not.
 */
ld_fs_handler *ld_blobfs_handler(uint32_t opcode, ld_fs_handler *tree);
/* What a node is: nid is the slot, size that of the device. -ESTALE. */
int ld_blobfs_inode(
	const struct ld_fs *fs, uint64_t nodeid, struct ld_inode_view *ret);
/* What lies at off: the device from there on. */
void ld_blobfs_extent(
	const struct ld_inode_view *v, uint64_t off, struct ld_extent *ret);

/* ---- fs_held.c ---- */

/* An empty table; nobody is in it any more at fini. */
void ld_fs_held_init(struct ld_fs_held *h);
void ld_fs_held_fini(struct ld_fs_held *h);
/*
 * r is answered later: an INTERRUPT finds it from now on. One that came before
 * cancels it now: r may be gone when this returns. Twice is fine. ON_WORKER.
 */
void ld_fs_hold(struct ld_fs_req *r);
/* r has been answered. False: a message to its worker still holds r, which
 * calls ops->free; true: free it now. ON_WORKER. */
bool ld_fs_release(struct ld_fs_req *r);
/* Every request that waits ends with -EINTR, soon. ANY_THREAD. */
void ld_fs_cancel_held(struct ld_fs *fs);
/* The reader of the request with this number wants to go. ON_WORKER, any. */
void ld_fs_interrupt(struct ld_fs *fs, uint64_t unique);

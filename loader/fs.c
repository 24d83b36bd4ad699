/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system's front: what a request is, who answers it, and how the
 * answer leaves. The kernel is trusted to speak FUSE, but not to send what we
 * expect: every length is checked here, once, so that handlers need not.
 *
 *   decode ---> run ---> reply ---> free
 *                 |        ^
 *                 +-> held-+  READs that wait for data
 *
 * A handler's failure is that request's error and nothing else.
 */
#include "loader/fs_int.h"

#include <errno.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/base/util.h"

#define LOG_TOPIC "fs"
/* So many of one worker make a start; then the index is read as files are. */
#define FEW_REQUESTS 32

/* ---- node ids ---- */

uint64_t ld_fs_node_of(const struct ld_fs *fs, uint64_t nid)
{
	return nid == fs->image->index.root_nid ? FW_ROOT_ID : nid + 2;
}

int ld_fs_inode(
	const struct ld_fs *fs, uint64_t nodeid, struct ld_inode_view *ret)
{
	const struct ld_index *x = &fs->image->index;
	int rc;

	if (nodeid == 0)
		return -ESTALE;
	rc = ld_index_inode(
		x, nodeid == FW_ROOT_ID ? x->root_nid : nodeid - 2, ret);
	return rc < 0 ? -EIO : 0;
}

/* ---- INIT ---- */

static uint64_t init_wants(const struct ld_fs *fs)
{
	return (fs->wants_uring ? FW_OVER_IO_URING : 0) | FW_ASYNC_READ |
	       FW_EXPORT_SUPPORT | FW_DO_READDIRPLUS | FW_READDIRPLUS_AUTO |
	       FW_NO_OPEN_SUPPORT | FW_PARALLEL_DIROPS | FW_MAX_PAGES |
	       FW_CACHE_SYMLINKS | FW_NO_OPENDIR_SUPPORT |
	       FW_EXPLICIT_INVAL_DATA | FW_INIT_EXT;
}

static int64_t answer_init(struct ld_fs_req *r)
{
	const struct fw_init_in *in = &r->arg.init;
	struct fw_init_out out = {.major = FW_MAJOR, .minor = FW_MINOR};
	uint64_t offered = in->flags;

	if (in->major < FW_MAJOR ||
		(in->major == FW_MAJOR && in->minor < FW_MIN_MINOR)) {
		r->fs->init_failed = true;
		return -EPROTO;
	}
	if (in->major == FW_MAJOR) {
		if (offered & FW_INIT_EXT)
			offered |= (uint64_t)in->flags2 << 32;
		r->fs->init_flags = offered & init_wants(r->fs);
		if (r->fs->serves_blobs) /* EROFS reads without page cache */
			r->fs->init_flags |= offered & FW_ASYNC_DIO;
		r->fs->init_done = true;
		out.max_readahead = in->max_readahead;
		out.flags = (uint32_t)r->fs->init_flags;
		out.flags2 = (uint32_t)(r->fs->init_flags >> 32);
		out.max_background = (uint16_t)min_u64(UINT16_MAX,
			LD_FS_MAX_WAITING / 4ull * 3 * r->fs->workers);
		out.congestion_threshold = out.max_background / 4 * 3;
		out.max_write = LD_FS_MAX_WRITE;
		out.time_gran = 1;
		out.max_pages = (uint16_t)(r->fs->max_read / 4096);
		log_debug("kernel speaks %u.%u and offers %#llx, taken %#llx",
			in->major, in->minor, (unsigned long long)offered,
			(unsigned long long)r->fs->init_flags);
	}
	/* A newer major: the kernel asks again with ours. */
	memcpy(r->out, &out, sizeof(out));
	return sizeof(out);
}

/* ---- operations that need no more than a line ---- */

static int64_t answer_nothing(struct ld_fs_req *r)
{
	return 0;
}

static int64_t answer_read_only(struct ld_fs_req *r)
{
	return -EROFS;
}

/* The kernel takes this for success and does not ask again. */
static int64_t answer_never_ask(struct ld_fs_req *r)
{
	return -ENOSYS;
}

static int64_t answer_interrupt(struct ld_fs_req *r)
{
	ld_fs_interrupt(r->fs, r->arg.interrupt.unique);
	return 0;
}

/* ---- what each opcode brings, and who answers ---- */

enum { HAS_NAME = 1, NO_REPLY = 2, HAS_SIZE = 4 };

struct op {
	ld_fs_handler *run;
	uint8_t arg_len; /* fixed part in front of a name */
	uint8_t flags;
	uint32_t max_out; /* HAS_SIZE: the most that the size may ask for */
};

static const struct op ops[] = {
	[FW_LOOKUP] = {ld_fs_lookup, 0, HAS_NAME, 0},
	[FW_FORGET] = {answer_nothing, 0, NO_REPLY, 0},
	[FW_GETATTR] = {ld_fs_getattr, 0, 0, 0},
	[FW_SETATTR] = {answer_read_only, 0, 0, 0},
	[FW_READLINK] = {ld_fs_readlink, 0, 0, LD_MAX_SYMLINK + 1},
	[FW_SYMLINK] = {answer_read_only, 0, 0, 0},
	[FW_MKNOD] = {answer_read_only, 0, 0, 0},
	[FW_MKDIR] = {answer_read_only, 0, 0, 0},
	[FW_UNLINK] = {answer_read_only, 0, 0, 0},
	[FW_RMDIR] = {answer_read_only, 0, 0, 0},
	[FW_RENAME] = {answer_read_only, 0, 0, 0},
	[FW_LINK] = {answer_read_only, 0, 0, 0},
	[FW_OPEN] = {ld_fs_open, sizeof(struct fw_open_in), 0, 0},
	[FW_READ] = {ld_fs_read, sizeof(struct fw_read_in), HAS_SIZE,
		LD_FS_MAX_READ},
	[FW_WRITE] = {answer_read_only, 0, 0, 0},
	[FW_STATFS] = {ld_fs_statfs, 0, 0, 0},
	[FW_RELEASE] = {answer_nothing, 0, 0, 0},
	[FW_FSYNC] = {answer_never_ask, 0, 0, 0},
	[FW_SETXATTR] = {answer_read_only, 0, 0, 0},
	[FW_GETXATTR] = {ld_fs_getxattr, sizeof(struct fw_getxattr_in),
		HAS_NAME | HAS_SIZE, LD_MAX_XATTR_VAL + 1},
	[FW_LISTXATTR] = {ld_fs_listxattr, sizeof(struct fw_getxattr_in),
		HAS_SIZE, LD_FS_MAX_READ},
	[FW_REMOVEXATTR] = {answer_read_only, 0, 0, 0},
	[FW_FLUSH] = {answer_never_ask, 0, 0, 0},
	[FW_INIT] = {answer_init, offsetof(struct fw_init_in, flags2), 0, 0},
	[FW_OPENDIR] = {ld_fs_opendir, sizeof(struct fw_open_in), 0, 0},
	[FW_READDIR] = {ld_fs_readdir, sizeof(struct fw_read_in), HAS_SIZE,
		LD_FS_MAX_READ},
	[FW_RELEASEDIR] = {answer_nothing, 0, 0, 0},
	[FW_FSYNCDIR] = {answer_never_ask, 0, 0, 0},
	[FW_ACCESS] = {ld_fs_access, sizeof(struct fw_access_in), 0, 0},
	[FW_CREATE] = {answer_read_only, 0, 0, 0},
	[FW_INTERRUPT] = {answer_interrupt, sizeof(struct fw_interrupt_in),
		NO_REPLY, 0},
	[FW_DESTROY] = {answer_nothing, 0, 0, 0},
	[FW_NOTIFY_REPLY] = {answer_nothing, 0, NO_REPLY, 0},
	[FW_BATCH_FORGET] = {answer_nothing, 0, NO_REPLY, 0},
	[FW_FALLOCATE] = {answer_read_only, 0, 0, 0},
	[FW_READDIRPLUS] = {ld_fs_readdir, sizeof(struct fw_read_in), HAS_SIZE,
		LD_FS_MAX_READ},
	[FW_RENAME2] = {answer_read_only, 0, 0, 0},
	[FW_COPY_FILE_RANGE] = {answer_read_only, 0, 0, 0},
	[FW_TMPFILE] = {answer_read_only, 0, 0, 0},
};

static const struct op *op_of(uint32_t opcode)
{
	return opcode < ARRAY_LEN(ops) && ops[opcode].run ? &ops[opcode] : NULL;
}

static int decode_name(struct ld_fs_req *r, const uint8_t *p, size_t n)
{
	const uint8_t *nul = n ? memchr(p, 0, n) : NULL;

	if (!nul || nul == p)
		return -EINVAL;
	if (nul - p > LD_MAX_NAME)
		return -ENAMETOOLONG;
	r->name = (const char *)p;
	r->name_len = (size_t)(nul - p);
	return 0;
}

/* READ and READDIR carry their size elsewhere than the xattr requests. */
static uint32_t size_asked(const struct ld_fs_req *r)
{
	if (r->opcode == FW_GETXATTR || r->opcode == FW_LISTXATTR)
		return r->arg.getxattr.size;
	return r->arg.read.size;
}

/* What every request has. NULL: an opcode that we do not know. */
static const struct op *decode_header(
	struct ld_fs_req *r, const struct fw_in_header *h)
{
	const struct op *op = op_of(h->opcode);

	r->opcode = h->opcode;
	r->unique = h->unique;
	r->nodeid = h->nodeid;
	r->no_reply = op && op->flags & NO_REPLY;
	r->name = NULL;
	r->name_len = 0;
	r->out_need = 0;
	r->cancel_error = 0;
	r->on_cancel = NULL;
	return op;
}

/* The argument is in r->arg. */
static void decode_room(struct ld_fs_req *r, const struct op *op)
{
	r->out_need = LD_FS_SMALL_REPLY;
	if (op->flags & HAS_SIZE)
		r->out_need = max_u64(
			r->out_need, min_u64(size_asked(r), op->max_out));
	else
		r->out_need = max_u64(r->out_need, op->max_out);
}

int ld_fs_decode(struct ld_fs_req *r, const struct fw_in_header *h,
	const uint8_t *bytes, size_t len)
{
	const struct op *op = decode_header(r, h);
	size_t arg_len;

	if (!op)
		return -ENOSYS;
	if (len < op->arg_len)
		return -EINVAL;
	r->arg.init = (struct fw_init_in){0};
	/* INIT has grown over time: what is there is taken. */
	arg_len = op->arg_len;
	if (h->opcode == FW_INIT)
		arg_len = min_u64(len, sizeof(r->arg.init));
	if (arg_len)
		memcpy(&r->arg, bytes, arg_len);
	decode_room(r, op);
	if (op->flags & HAS_NAME)
		return decode_name(r, bytes + op->arg_len, len - op->arg_len);
	return 0;
}

int ld_fs_decode_ring(struct ld_fs_req *r, const struct fw_in_header *h,
	const struct fw_uring_head *head, const uint8_t *payload, size_t len)
{
	const struct op *op = decode_header(r, h);

	if (!op)
		return -ENOSYS;
	/* The handshake is over before there is a ring. */
	if (h->opcode == FW_INIT)
		return -EINVAL;
	memcpy(&r->arg, head->op_in, op->arg_len);
	decode_room(r, op);
	return op->flags & HAS_NAME ? decode_name(r, payload, len) : 0;
}

/* ---- answers ---- */

int ld_fs_errno(int rc)
{
	switch (rc) {
	case -EBADMSG:
	case -EPROTO:
	case -E2BIG:
	case -ETIMEDOUT:
	case -EOPNOTSUPP:
		return -EIO;
	case -ECANCELED:
		return -EINTR;
	default:
		/* The kernel takes replies with other numbers for an attack. */
		return rc < 0 && rc > -512 ? rc : -EIO;
	}
}

/* What it was before. */
static uint64_t count(_Atomic uint64_t *c, uint64_t n)
{
	uint64_t before = atomic_load_explicit(c, memory_order_relaxed);

	/* One writer: no locked instruction is needed. */
	atomic_store_explicit(c, before + n, memory_order_relaxed);
	return before;
}

/*
 * Zeros that came in place of a lost page of the index must not become an
 * answer that the kernel keeps for ever, not even "there is no such name".
 */
static int check_index(const struct ld_fs_req *r, int error)
{
	if (r->opcode == FW_INIT || r->fs->serves_blobs ||
		!ld_index_is_lost(&r->fs->image->index))
		return error;
	return error == -EINTR ? error : -EIO;
}

void ld_fs_finish(struct ld_fs_req *r, int error, size_t len)
{
	error = check_index(r, error);
	if (count(&r->counters->requests, 1) == FEW_REQUESTS)
		ld_index_read_alone(&r->fs->image->index, false);
	if (r->opcode == FW_READ) {
		(void)count(&r->counters->reads, 1);
		(void)count(&r->counters->read_bytes, error ? 0 : len);
		(void)count(
			&r->counters->read_errors, error && error != -EINTR);
	}
	if (!r->no_reply)
		r->ops->reply(r, error, error ? 0 : len);
	if (ld_fs_release(r))
		r->ops->free(r);
}

void ld_fs_run(struct ld_fs_req *r)
{
	ld_fs_handler *run = op_of(r->opcode)->run;
	int64_t rc;

	if (r->fs->serves_blobs)
		run = ld_blobfs_handler(r->opcode, run);
	rc = run(r);
	if (rc == LD_FS_LATER)
		ld_fs_hold(r);
	else if (rc < 0)
		ld_fs_finish(r, (int)rc, 0);
	else
		ld_fs_finish(r, 0, (size_t)rc);
}

void ld_fs_cancel(struct ld_fs_req *r, int error)
{
	if (!r->on_cancel || r->cancel_error)
		return;
	r->cancel_error = error;
	r->on_cancel(r);
}

void ld_fs_init(struct ld_fs *fs, const struct ld_image *image)
{
	*fs = (struct ld_fs){
		.image = image,
		.inode_count = image->index.inode_count,
		.max_read = LD_FS_MAX_READ,
		.workers = 1,
	};
	ld_fs_held_init(&fs->held);
}

void ld_fs_fini(struct ld_fs *fs)
{
	ld_fs_held_fini(&fs->held);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver "erofs":
 *
 *   seal what is complete --> FUSE mount of the rest, served --> EROFS
 *                        \------- nothing is left ------------/
 *
 * The kernel reads the index from its file in the cache directory, which it
 * keeps open: whoever removes or replaces the name changes nothing for this
 * mount. Where the cache could not keep the index, a file without a name holds
 * it. Files go to the mounter as descriptors, so that nothing is looked up
 * twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "loader/driver.h"
#include "runtime/base/cleanup.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/whole.h"

#define LOG_TOPIC "driver"

/* The index as a file of the cache directory that has no name. */
static int make_index_file(
	const struct ld_driver_options *o, int *ret, struct err *e)
{
	const struct ld_index *x = &o->session.image->index;
	CLEANUP_FD int fd = -1;
	int rc;

	fd = openat(bc_store_dirfd(o->store), ".",
		O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, -errno,
			"cannot make a file for the index in '%s'",
			bc_store_path(o->store));
	rc = whole_pwrite(fd, x->base, x->len, 0);
	if (rc == 0 && ld_index_is_lost(x))
		rc = -EIO;
	if (rc < 0)
		return err_sys(e, rc, "cannot write the index down");
	*ret = take_fd(&fd);
	return 0;
}

/* path becomes "" where the file has no name. */
static int open_index(const struct ld_driver_options *o, int *ret, char *path,
	size_t cap, struct err *e)
{
	const struct ld_image *image = o->session.image;
	char rel[LD_IMAGE_REL_LEN];
	CLEANUP_FD int fd = -1;
	struct stat st;
	int n;

	if (ld_image_index_path(image, rel)) {
		fd = openat(bc_store_dirfd(o->store), rel,
			O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		/* verified when it was opened before; the same file? */
		if (fd >= 0 && fstat(fd, &st) == 0 &&
			(uint64_t)st.st_size == image->index.len) {
			n = snprintf(path, cap, "%s/%s",
				bc_store_path(o->store), rel);
			if (n < 0 || (size_t)n >= cap)
				path[0] = '\0';
			*ret = take_fd(&fd);
			return 0;
		}
	}
	path[0] = '\0';
	return make_index_file(o, ret, e);
}

/* The file that the kernel may read by itself; -1: it is not complete. */
static int sealed_file(struct bc_blob *b)
{
	int rc = bc_blob_seal(b);

	if (rc < 0 && rc != -ENODATA && rc != -EROFS && rc != -EAGAIN)
		log_warn("cannot seal a cache file (error %d), a process "
			 "serves it",
			-rc);
	return rc < 0 ? -1 : bc_blob_sealed_fd(b);
}

static int serve_blobs(
	const struct ld_driver_options *o, struct ld_driven *d, struct err *e)
{
	struct ld_session_options s = o->session;
	int rc;

	rc = ld_mounter_mount_blobs(o->mounter, &s.fuse_fd, e);
	if (rc < 0)
		return rc;
	s.serves_blobs = true;
	return ld_session_start(&s, &d->session, e);
}

/* Of what is open now; the files stay the caller's. */
static int mount_files(const struct ld_driver_options *o,
	const struct ld_erofs_files *f, bool is_complete, struct ld_driven *ret,
	struct err *e)
{
	struct ld_driven d = {.name = "erofs"};
	int rc = 0;

	if (!is_complete)
		rc = serve_blobs(o, &d, e);
	if (rc == 0)
		rc = ld_mounter_mount_erofs(o->mounter, &o->mount, f, &d.id, e);
	if (rc < 0) {
		ld_driver_stop(&d);
		return rc;
	}
	d.is_mounted = true;
	*ret = d;
	return 0;
}

int ld_driver_erofs_mount(
	const struct ld_driver_options *o, struct ld_driven *ret, struct err *e)
{
	const struct ld_image *image = o->session.image;
	struct ld_erofs_files f = {.count = (uint32_t)image->blob_count};
	CLEANUP_FREE int *device = NULL;
	CLEANUP_FD int index = -1;
	bool is_complete = true;
	char path[4096];
	uint32_t i;
	int rc;

	if (geteuid() != 0)
		return err_set_kind(e, ERR_UNSUPPORTED, -EPERM,
			"only root can mount EROFS");
	rc = open_index(o, &index, path, sizeof(path), e);
	if (rc < 0)
		return rc;
	device = mem_calloc(image->blob_count + 1, sizeof(*device));
	if (!device)
		return err_set(e, -ENOMEM, "out of memory");
	for (i = 0; i < f.count; i++) {
		device[i] =
			o->watch_reads ? -1 : sealed_file(image->blobs[i].blob);
		is_complete = is_complete && device[i] >= 0;
	}
	f.index = index;
	f.path = path;
	f.device = device;
	return mount_files(o, &f, is_complete, ret, e);
}

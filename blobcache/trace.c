/* SPDX-License-Identifier: Apache-2.0 */
/* The order of first touches; see trace.h. */
#include "blobcache/trace.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "runtime/base/mem.h"

struct bc_trace {
	pthread_mutex_t lock; /* guards record */
	struct bc_record record;
	atomic_bool is_stopped;
	atomic_uint_least64_t count;
};

int bc_trace_create(struct bc_trace **ret)
{
	struct bc_trace *t = mem_zalloc(sizeof(*t));

	if (!t)
		return -ENOMEM;
	if (pthread_mutex_init(&t->lock, NULL) != 0) {
		mem_free(t);
		return -ENOMEM;
	}
	*ret = t;
	return 0;
}

void bc_trace_destroy(struct bc_trace *t)
{
	if (!t)
		return;
	bc_record_fini(&t->record);
	(void)pthread_mutex_destroy(&t->lock); /* nobody holds it */
	mem_free(t);
}

int bc_trace_add_blob(struct bc_trace *t, const struct digest *digest,
	const struct digest *map_id, uint32_t *ret)
{
	return bc_record_add_blob(&t->record, digest, map_id, ret);
}

void bc_trace_note(struct bc_trace *t, uint32_t blob, uint32_t group)
{
	int err;

	if (atomic_load_explicit(&t->is_stopped, memory_order_relaxed))
		return;
	(void)pthread_mutex_lock(&t->lock); /* a plain mutex cannot fail */
	err = bc_record_add(&t->record, blob, group, 1);
	(void)pthread_mutex_unlock(&t->lock);
	if (err < 0)
		bc_trace_stop(t);
	else
		atomic_fetch_add(&t->count, 1);
}

void bc_trace_stop(struct bc_trace *t)
{
	atomic_store(&t->is_stopped, true);
}

uint64_t bc_trace_count(const struct bc_trace *t)
{
	return atomic_load(&t->count);
}

int bc_trace_read(struct bc_trace *t, struct bc_record *ret)
{
	struct bc_record r = {0};
	int err;

	(void)pthread_mutex_lock(&t->lock);
	err = bc_record_merge(&r, &t->record);
	(void)pthread_mutex_unlock(&t->lock);
	if (err < 0) {
		bc_record_fini(&r);
		return err;
	}
	*ret = r;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Ready and durable bits in shared memory; see readybits.h. */
#include "blobcache/readybits.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "runtime/base/util.h"
#include "runtime/tsan.h"

#define READY_MAGIC "SLUICRDY"
#define READY_VERSION 1
#define READY_PAGE 4096 /* of the format; the header fills one */
#define READY_SEALED 1  /* flag: given to the kernel, never written again */

struct bc_ready_header {
	uint8_t magic[8];
	uint32_t version;
	uint32_t chunk_count;
	_Atomic uint32_t flags;
	uint32_t reserved;
	_Atomic uint64_t generation;
	uint8_t boot_id[BC_BOOT_ID_LEN];
	uint8_t map_id[32];
	uint64_t device_size;
	uint64_t reserved_too;
	_Atomic uint32_t stamps[BC_READY_RUNS];
};

static_assert(sizeof(struct bc_ready_header) == READY_PAGE, "of the file");
static_assert(sizeof(_Atomic uint64_t) == 8 && ATOMIC_LLONG_LOCK_FREE == 2,
	"bits are shared with other processes");

static size_t words_for(uint32_t chunk_count)
{
	return round_up(div_round_up(chunk_count, 64), READY_PAGE / 8);
}

size_t bc_ready_len(uint32_t chunk_count)
{
	return READY_PAGE + 2 * 8 * words_for(chunk_count);
}

void bc_ready_format(void *mem, const struct bc_map *map,
	const uint8_t boot_id[BC_BOOT_ID_LEN])
{
	struct bc_ready_header *h = mem;

	memcpy(h->magic, READY_MAGIC, sizeof(h->magic));
	h->version = READY_VERSION;
	h->chunk_count = map->chunk_count;
	h->device_size = map->device_size;
	memcpy(h->boot_id, boot_id, BC_BOOT_ID_LEN);
	memcpy(h->map_id, map->id.bytes, sizeof(h->map_id));
}

int bc_ready_attach(
	void *mem, size_t len, const struct bc_map *map, struct bc_ready *ret)
{
	struct bc_ready_header *h = mem;

	if (len != bc_ready_len(map->chunk_count))
		return -EPROTO;
	if (memcmp(h->magic, READY_MAGIC, sizeof(h->magic)) != 0 ||
		h->version != READY_VERSION ||
		h->chunk_count != map->chunk_count ||
		h->device_size != map->device_size ||
		memcmp(h->map_id, map->id.bytes, sizeof(h->map_id)) != 0 ||
		(atomic_load(&h->flags) & ~(uint32_t)READY_SEALED))
		return -EPROTO;
	ret->h = h;
	ret->words = words_for(map->chunk_count);
	ret->chunk_count = map->chunk_count;
	ret->ready = (void *)((uint8_t *)mem + READY_PAGE);
	ret->durable = ret->ready + ret->words;
	return 0;
}

int bc_ready_peek(void *mem, size_t len, const struct digest *map_id,
	struct bc_ready *ret)
{
	const struct bc_ready_header *h = mem;
	struct bc_map map = {.id = *map_id};

	if (len < READY_PAGE)
		return -EPROTO;
	map.chunk_count = h->chunk_count;
	map.device_size = h->device_size;
	return bc_ready_attach(mem, len, &map, ret);
}

bool bc_ready_is_boot(
	const struct bc_ready *r, const uint8_t boot_id[BC_BOOT_ID_LEN])
{
	return memcmp(r->h->boot_id, boot_id, BC_BOOT_ID_LEN) == 0;
}

void bc_ready_new_boot(
	struct bc_ready *r, const uint8_t boot_id[BC_BOOT_ID_LEN])
{
	bc_ready_clear_not_durable(r);
	bc_ready_set_boot(r, boot_id);
}

void bc_ready_set_boot(
	struct bc_ready *r, const uint8_t boot_id[BC_BOOT_ID_LEN])
{
	memcpy(r->h->boot_id, boot_id, BC_BOOT_ID_LEN);
}

bool bc_ready_is_sealed(const struct bc_ready *r)
{
	return atomic_load(&r->h->flags) & READY_SEALED;
}

void bc_ready_seal(struct bc_ready *r)
{
	atomic_fetch_or(&r->h->flags, READY_SEALED);
}

uint64_t bc_ready_generation(const struct bc_ready *r)
{
#if !TSAN_IS_ON
	/* Bytes that were read before this were there before it: without, some
	 * CPUs may look at the generation first. */
	atomic_thread_fence(memory_order_acquire);
#endif
	return atomic_load(&r->h->generation);
}

bool bc_ready_test(const _Atomic uint64_t *bits, uint32_t first, uint32_t count)
{
	while (count > 0) {
		uint32_t shift = first % 64, n = 64 - shift;
		uint64_t mask;

		n = (uint32_t)min_u64(n, count);
		mask = (n == 64 ? ~0ull : (1ull << n) - 1) << shift;
		if ((atomic_load_explicit(
			     &bits[first / 64], memory_order_acquire) &
			    mask) != mask)
			return false;
		first += n;
		count -= n;
	}
	return true;
}

void bc_ready_set(struct bc_ready *r, uint32_t chunk)
{
	atomic_fetch_or_explicit(&r->ready[chunk / 64], 1ull << chunk % 64,
		memory_order_release);
}

void bc_ready_clear(struct bc_ready *r, uint32_t first, uint32_t count)
{
	uint32_t i;

	/*
	 * Ready before durable: bc_ready_set_durable looks at the ready bit
	 * again after it set the other.
	 */
	for (i = first; i < first + count; i++) {
		uint64_t mask = ~(1ull << i % 64);

		atomic_fetch_and(&r->ready[i / 64], mask);
		atomic_fetch_and(&r->durable[i / 64], mask);
	}
	atomic_fetch_add(&r->h->generation, 1);
}

void bc_ready_clear_not_durable(struct bc_ready *r)
{
	size_t i;

	for (i = 0; i < r->words; i++)
		atomic_fetch_and(&r->ready[i], atomic_load(&r->durable[i]));
	atomic_fetch_add(&r->h->generation, 1);
}

void bc_ready_snapshot(const struct bc_ready *r, uint64_t *ret)
{
	size_t i;

	for (i = 0; i < r->words; i++)
		ret[i] = atomic_load(&r->ready[i]);
}

void bc_ready_set_durable(struct bc_ready *r, const uint64_t *snapshot)
{
	uint64_t lost, want;
	size_t i;

	for (i = 0; i < r->words; i++) {
		want = snapshot[i] & atomic_load(&r->ready[i]);
		if (!(want & ~atomic_load(&r->durable[i])))
			continue;
		atomic_fetch_or(&r->durable[i], want);
		lost = want & ~atomic_load(&r->ready[i]);
		if (lost)
			atomic_fetch_and(&r->durable[i], ~lost);
	}
}

uint32_t bc_ready_run_len(uint32_t chunk_count)
{
	return (uint32_t)max_u64(1, div_round_up(chunk_count, BC_READY_RUNS));
}

uint32_t bc_ready_run_count(uint32_t chunk_count)
{
	return (uint32_t)div_round_up(
		chunk_count, bc_ready_run_len(chunk_count));
}

void bc_ready_touch(
	struct bc_ready *r, uint32_t first, uint32_t count, uint32_t now)
{
	uint32_t len = bc_ready_run_len(r->chunk_count), run;

	if (count == 0)
		return;
	for (run = first / len; run <= (first + count - 1) / len; run++)
		if (atomic_load_explicit(
			    &r->h->stamps[run], memory_order_relaxed) != now)
			atomic_store_explicit(
				&r->h->stamps[run], now, memory_order_relaxed);
}

uint32_t bc_ready_stamp(const struct bc_ready *r, uint32_t run)
{
	return atomic_load_explicit(&r->h->stamps[run], memory_order_relaxed);
}

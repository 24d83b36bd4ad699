/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGBUS inside known mappings; see guard.h. The table is global because a
 * signal handler has nothing else, and it is read there without locks: a slot
 * counts while its base is set, and its length is written before that.
 */
#include "blobcache/guard.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/util.h"

struct slot {
	atomic_uintptr_t base; /* 0: free; SLOT_TAKEN: being filled */
	atomic_size_t len;
	atomic_bool broken;
};

#define SLOT_TAKEN 1

static struct slot slots[BC_GUARD_MAX];
static atomic_uintptr_t page_mask;

static struct slot *slot_at(uintptr_t addr)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(slots); i++) {
		uintptr_t base = atomic_load(&slots[i].base);

		if (base > SLOT_TAKEN && addr >= base &&
			addr - base < atomic_load(&slots[i].len))
			return &slots[i];
	}
	return NULL;
}

/*
 * A page of zeros in the place of the lost one. The system call itself: mmap(3)
 * is not promised to be safe in a handler.
 */
static bool put_zeros(uintptr_t addr)
{
	uintptr_t mask = page_mask;
	long at;

	at = syscall(SYS_mmap, addr & mask, ~mask + 1, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	return (uintptr_t)at == (addr & mask);
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	uintptr_t addr = (uintptr_t)info->si_addr;
	struct slot *s = slot_at(addr);
	int saved = errno;

	/* Known as broken before anybody can read the zeros. */
	if (s)
		atomic_store(&s->broken, true);
	if (s && put_zeros(addr)) {
		errno = saved;
		return;
	}
	/* Not ours: the instruction runs again and meets the default. */
	(void)sigaction(
		SIGBUS, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
}

/* Each time anew: somebody else may have put a handler of theirs in between. */
static int install(void)
{
	struct sigaction sa = {
		.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

	(void)sigemptyset(&sa.sa_mask); /* cannot fail */
	return sigaction(SIGBUS, &sa, NULL) < 0 ? -errno : 0;
}

int bc_guard_add(const void *base, size_t len)
{
	size_t i;
	int r;

	atomic_store(&page_mask, ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1));
	r = install();
	if (r < 0)
		return r;
	for (i = 0; i < ARRAY_LEN(slots); i++) {
		uintptr_t free_slot = 0;

		if (!atomic_compare_exchange_strong(
			    &slots[i].base, &free_slot, SLOT_TAKEN))
			continue;
		atomic_store(&slots[i].len, len);
		atomic_store(&slots[i].broken, false);
		atomic_store(&slots[i].base, (uintptr_t)base);
		return (int)i;
	}
	return -ENOSPC;
}

void bc_guard_remove(int guard)
{
	if (guard >= 0)
		atomic_store(&slots[guard].base, 0);
}

bool bc_guard_is_broken(int guard)
{
	return guard >= 0 &&
	       atomic_load_explicit(&slots[guard].broken, memory_order_relaxed);
}

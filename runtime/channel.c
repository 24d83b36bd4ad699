/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bounded queue and the set of sleepers. Nothing here blocks or spins on
 * another thread: a loop goes round only when somebody else got ahead.
 */
#include "runtime/channel.h"

#include <assert.h>
#include <errno.h>

#include "runtime/atomics.h"
#include "runtime/base/mem.h"

#define TAIL_CLOSED 1u
#define TAIL_STEP 2u

#define WAKE_DUE (1ull << RT_SLEEPERS_MAX)

int rt_queue_init(struct rt_queue *q, unsigned cap)
{
	uint64_t places = 2, i;

	*q = (struct rt_queue){0};
	if (!cap || cap > RT_QUEUE_MAX)
		return -EINVAL;
	while (places < cap)
		places *= 2;
	q->cells = mem_calloc(places, sizeof(*q->cells));
	if (!q->cells)
		return -ENOMEM;
	q->mask = places - 1;
	for (i = 0; i < places; i++)
		atomic_init(&q->cells[i].turn, i);
	return 0;
}

void rt_queue_fini(struct rt_queue *q)
{
	mem_free(q->cells);
	q->cells = NULL;
}

int rt_queue_push(struct rt_queue *q, void *item)
{
	uint64_t tail = at_load(&q->tail);
	struct rt_cell *cell;
	int64_t ahead;

	for (;;) {
		/*
		 * The bit lives in the word that gives out places, so every
		 * place is given before the close or not at all.
		 */
		if (tail & TAIL_CLOSED)
			return -ESHUTDOWN;
		cell = &q->cells[(tail / TAIL_STEP) & q->mask];
		ahead = (int64_t)(at_load(&cell->turn) - tail / TAIL_STEP);
		if (ahead < 0)
			return -EAGAIN;
		if (ahead > 0)
			tail = at_load(&q->tail);
		else if (at_cas(&q->tail, &tail, tail + TAIL_STEP))
			break;
	}
	cell->item = item;
	at_store(&cell->turn, tail / TAIL_STEP + 1);
	return 0;
}

int rt_queue_pop(struct rt_queue *q, void **ret_item)
{
	uint64_t head = at_load(&q->head), tail;
	struct rt_cell *cell;
	int64_t ahead;

	for (;;) {
		cell = &q->cells[head & q->mask];
		ahead = (int64_t)(at_load(&cell->turn) - (head + 1));
		if (ahead < 0) {
			tail = at_load(&q->tail);
			return tail == (head * TAIL_STEP | TAIL_CLOSED)
			               ? -ESHUTDOWN
			               : -EAGAIN;
		}
		if (ahead > 0)
			head = at_load(&q->head);
		else if (at_cas(&q->head, &head, head + 1))
			break;
	}
	*ret_item = cell->item;
	at_store(&cell->turn, head + q->mask + 1);
	return 0;
}

bool rt_queue_has_item(struct rt_queue *q)
{
	uint64_t head;
	int64_t ahead;

	do {
		head = at_load(&q->head);
		ahead = (int64_t)(at_load(&q->cells[head & q->mask].turn) -
				  (head + 1));
	} while (ahead > 0);
	return ahead == 0;
}

bool rt_queue_close(struct rt_queue *q)
{
	return !(at_or(&q->tail, TAIL_CLOSED) & TAIL_CLOSED);
}

bool rt_queue_is_drained(const struct rt_queue *q)
{
	uint64_t tail = at_load(&q->tail);

	return tail & TAIL_CLOSED && at_load(&q->head) == tail / TAIL_STEP;
}

uint64_t rt_queue_count(const struct rt_queue *q)
{
	/* Head first: it cannot be beyond a tail that is read later. */
	uint64_t head = at_load(&q->head);

	return at_load(&q->tail) / TAIL_STEP - head;
}

void rt_sleepers_enter(struct rt_sleepers *s, unsigned i)
{
	assert(i < RT_SLEEPERS_MAX);
	(void)at_or(&s->word, 1ull << i);
}

void rt_sleepers_leave(struct rt_sleepers *s, unsigned i)
{
	uint64_t bit = 1ull << i;

	if (!(at_and(&s->word, ~bit) & bit))
		(void)at_and(&s->word, ~WAKE_DUE);
}

bool rt_sleepers_is_picked(struct rt_sleepers *s, unsigned i)
{
	return !(at_load(&s->word) & 1ull << i);
}

int rt_sleepers_pick(struct rt_sleepers *s)
{
	uint64_t word = at_load(&s->word), from;
	unsigned i;

	do {
		if (!word || word & WAKE_DUE)
			return -1;
		/* Go round, so that light load meets every worker. */
		from = word & -(1ull << atomic_load_explicit(
					&s->next, memory_order_relaxed));
		i = (unsigned)__builtin_ctzll(from ? from : word);
	} while (!at_cas(&s->word, &word, (word & ~(1ull << i)) | WAKE_DUE));
	atomic_store_explicit(
		&s->next, (i + 1) % RT_SLEEPERS_MAX, memory_order_relaxed);
	return (int)i;
}

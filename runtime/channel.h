/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded queue for many senders and many receivers that never blocks, and
 * the set of receivers that sleep.
 *
 * They are apart so that one can be used without the other; together they lose
 * no wake-up if each side keeps its order:
 *
 *   sender:   push, then rt_sleepers_pick, then wake whom it names
 *   receiver: rt_sleepers_enter, then look at the queue, then sleep;
 *             when awake rt_sleepers_leave, then look at the queue
 */
#pragma once

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- queue ---- */

struct rt_cell {
	/* pos: free for that lap's sender; pos + 1: holds its item */
	_Atomic uint64_t turn;
	void *item;
};

/*
 * Cells stamped with the lap they are in: a sender and a receiver need one
 * compare-and-swap each. Items come out in the order of their places. A sender
 * that has its place but has not filled it yet hides the later ones.
 */
struct rt_queue {
	struct rt_cell *cells; /* owned */
	uint64_t mask;
	/* next place to fill, shifted by one; bit 0: closed */
	alignas(64) _Atomic uint64_t tail;
	/* next place to empty */
	alignas(64) _Atomic uint64_t head;
};

#define RT_QUEUE_MAX (1u << 20)

/*
 * At least cap places: rounded up to a power of two, 2 or more. 0, -EINVAL
 * (0 or more than RT_QUEUE_MAX) or -ENOMEM. INIT_ONLY.
 */
int rt_queue_init(struct rt_queue *q, unsigned cap);
/* What is still inside is forgotten. Fine after a failed init. INIT_ONLY. */
void rt_queue_fini(struct rt_queue *q);
/* 0, -EAGAIN (full just now) or -ESHUTDOWN (closed). ANY_THREAD. */
int rt_queue_push(struct rt_queue *q, void *item);
/*
 * 0, -EAGAIN (nothing to take just now) or -ESHUTDOWN (closed, and everything
 * that was pushed has been taken). ANY_THREAD.
 */
int rt_queue_pop(struct rt_queue *q, void **ret_item);
/* A pop would have found something. ANY_THREAD. */
bool rt_queue_has_item(struct rt_queue *q);
/*
 * No push succeeds that has not got its place yet. False if it was closed
 * before. ANY_THREAD.
 */
bool rt_queue_close(struct rt_queue *q);
/* Closed, and every place that was given has been emptied. ANY_THREAD. */
bool rt_queue_is_drained(const struct rt_queue *q);
/* Places in use, about. ANY_THREAD. */
uint64_t rt_queue_count(const struct rt_queue *q);

/* ---- sleepers ---- */

/* Who sleeps is one word: a bit for each, and one that says a wake is due. */
#define RT_SLEEPERS_MAX 63

/*
 * At most one wake is on its way at a time: messages that come before it has
 * arrived send none, and the woken one sends the next if it leaves something.
 * A set that is all zero is empty.
 */
struct rt_sleepers {
	alignas(64) _Atomic uint64_t word;
	_Atomic unsigned next; /* whom to try first; only a hint */
};

/* i is about to look at the queue a last time and sleep. ON_WORKER. */
void rt_sleepers_enter(struct rt_sleepers *s, unsigned i);
/*
 * i is awake and about to look at the queue; if it had been picked, the next
 * pick may name somebody again. Once for each enter. ON_WORKER.
 */
void rt_sleepers_leave(struct rt_sleepers *s, unsigned i);
/* After enter: somebody has picked i. ON_WORKER. */
bool rt_sleepers_is_picked(struct rt_sleepers *s, unsigned i);
/*
 * Take one out of the set and say who: the caller wakes it. -1 if nobody sleeps
 * or a picked one has not come yet. ANY_THREAD.
 */
int rt_sleepers_pick(struct rt_sleepers *s);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single-flight: at most one operation per key is on its way; who asks for the
 * same key meanwhile waits for its result.
 *
 * A table has one short mutex; no callback runs under it. A flight is reference
 * counted: the owner and every waiter hold one.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/list.h"
#include "runtime/op.h"

struct rt_flight {
	uint64_t key;
	struct list hash_node, waiters; /* under the table's mutex */
	unsigned refs;                  /* under the table's mutex */
	enum rt_class cls;              /* under the table's mutex */
	bool landed;
};

struct rt_flight_table {
	pthread_mutex_t
		lock; /* guards buckets and every flight's private part */
	struct list *buckets; /* owned */
	unsigned bucket_count;
	unsigned count;
	/* Frees the flight that this table's creator made. ANY_THREAD. */
	void (*destroy)(struct rt_flight *f);
};

/*
 * One who waits; embedded in the waiter's structure. Only landed is set by the
 * waiter.
 */
struct rt_waiter {
	struct list node; /* under the table's mutex; prev NULL: not waiting */
	/* Called once, by the thread that lands or fails the flight. */
	void (*landed)(struct rt_waiter *wt, struct rt_flight *f, int result);
	struct rt_flight *flight; /* while waiting, and until unref'd after */
};

/* 0 or -ENOMEM; destroy as above. INIT_ONLY. */
int rt_flight_table_init(struct rt_flight_table *t, unsigned buckets,
	void (*destroy)(struct rt_flight *f));
/* The table must be empty. INIT_ONLY. */
void rt_flight_table_fini(struct rt_flight_table *t);

/*
 * Join the flight with this key, or put fresh (refs 1: the owner's) in the air
 * and join that. fresh needs no initialisation. wt may be NULL (prefetch:
 * nobody waits); then a flight that is not fresh may be gone by the time this
 * returns.
 *
 * Returns the flight joined; *ret_is_new says whether it is fresh; otherwise
 * fresh stays the caller's. *ret_promote is set when a demand joined a flight
 * that was prefetch until now: once per flight, and the caller then holds one
 * more reference, meant for rt_req_promote (whose released drops it; if it
 * returns false, the caller does). ANY_THREAD.
 */
struct rt_flight *rt_flight_join(struct rt_flight_table *t, uint64_t key,
	enum rt_class cls, struct rt_flight *fresh, struct rt_waiter *wt,
	bool *ret_is_new, bool *ret_promote);
/*
 * The end: takes f out of the table, so that who comes later starts anew, then
 * tells every waiter the result. Drops the owner's reference. ANY_THREAD.
 */
void rt_flight_land(struct rt_flight_table *t, struct rt_flight *f, int result);
/*
 * wt no longer waits. True if it was still waiting: its landed will not be
 * called and its reference is dropped. False: landed ran or is running, and wt
 * must stay until it has. ANY_THREAD.
 */
bool rt_flight_leave(struct rt_flight_table *t, struct rt_waiter *wt);
/*
 * Drop one reference; the last one destroys f. A waiter does this when landed
 * has been called and it is done with f's data. ANY_THREAD.
 */
void rt_flight_unref(struct rt_flight_table *t, struct rt_flight *f);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bound on what is on its way: on its memory, or on its number. Who does not
 * fit waits for its turn: demand before prefetch, each in order; prefetch gets
 * at most three quarters. What is larger than the bound goes alone.
 *
 * Tickets may say whose they are. Of such a share no more is granted than three
 * times what is left free for all others, and a demand of who has nothing never
 * waits: however much waits for one source that does not answer, or for
 * several, those of the next go on.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/list.h"
#include "runtime/op.h"

struct bc_budget {
	pthread_mutex_t lock; /* guards all of it, and waiting tickets */
	uint64_t limit, used;
	struct list waiting[RT_CLASSES];
};

/* What is granted to one of those that share a budget; zero it. */
struct bc_share {
	uint64_t used; /* under the budget's lock */
};

/* Embedded in who asks; zero it. */
struct bc_ticket {
	/* The bytes are yours now. Runs in the thread that gave some back. */
	void (*granted)(struct bc_ticket *t);
	struct bc_share *share; /* borrowed; NULL: nobody's */
	struct list node;
	uint64_t bytes;
	enum rt_class cls;
	bool is_waiting;
};

/* 0 or -errno. */
int bc_budget_init(struct bc_budget *b, uint64_t limit);
/* Another bound for what is taken from now on. ANY_THREAD. */
void bc_budget_set_limit(struct bc_budget *b, uint64_t limit);
/* Nobody holds or waits. */
void bc_budget_fini(struct bc_budget *b);
/* True: granted at once. False: t->granted will be called. ANY_THREAD. */
bool bc_budget_take(struct bc_budget *b, struct bc_ticket *t, uint64_t bytes,
	enum rt_class cls);
/* Give t's bytes back. ANY_THREAD. */
void bc_budget_give(struct bc_budget *b, struct bc_ticket *t);
/* If t still waits it waits among the demands. ANY_THREAD. */
void bc_budget_promote(struct bc_budget *b, struct bc_ticket *t);

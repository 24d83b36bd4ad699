/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loader/driver and what it asks of a session, without a mount of ours: the
 * wait for the end of an EROFS, requests that are ended because of it.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "loader/driver.h"
#include "loader/transport_int.h"
#include "runtime/base/util.h"
#include "tests/async/engines.h"

/* ---- the wait ---- */

struct waiting {
	struct ld_session session;
	struct ld_driven d;
	struct bc_net *net;
	int client;
};

/* As if /proc were an EROFS of ours. */
static void begin(struct waiting *w)
{
	const struct bc_net_options o = {0};
	struct err e = {0};
	struct stat st;

	*w = (struct waiting){.client = eventfd(0, EFD_CLOEXEC)};
	w->session.ended_fd = eventfd(0, EFD_CLOEXEC);
	ld_fs_held_init(&w->session.fs.held);
	assert_int_equal(bc_net_create(&o, &w->net, &e), 0);
	assert_int_equal(stat("/proc", &st), 0);
	w->d.session = &w->session;
	w->d.id.id = 1;
	w->d.id.dev_major = major(st.st_dev);
	w->d.id.dev_minor = minor(st.st_dev);
}

static void end(struct waiting *w)
{
	bc_net_destroy(w->net);
	ld_fs_held_fini(&w->session.fs.held);
	(void)close(w->session.ended_fd);
	(void)close(w->client);
}

static void *write_later(void *arg)
{
	(void)poll(NULL, 0, 50);
	assert_int_equal(eventfd_write(*(int *)arg, 1), 0);
	return NULL;
}

static int wait_while_written(struct waiting *w, int *fd)
{
	pthread_t t;
	int rc;

	assert_int_equal(pthread_create(&t, NULL, write_later, fd), 0);
	rc = ld_driver_wait(&w->d, w->net, w->client);
	assert_int_equal(pthread_join(t, NULL), 0);
	return rc;
}

static void a_wait_sees_clients_and_the_end(void **state)
{
	struct waiting w;

	begin(&w);
	assert_int_equal(wait_while_written(&w, &w.client), 1);
	assert_int_equal(ld_driver_wait(&w.d, w.net, w.client), 1);
	assert_int_equal(eventfd_read(w.client, (eventfd_t[1]){0}), 0);
	assert_int_equal(wait_while_written(&w, &w.session.ended_fd), 0);
	end(&w);
}

static void a_mount_that_lives_on_elsewhere_is_waited_for(void **state)
{
	struct waiting w;

	begin(&w);
	w.d.id.dev_major = 4095; /* nowhere in this namespace */
	assert_int_equal(wait_while_written(&w, &w.client), 1);
	assert_int_equal(eventfd_read(w.client, (eventfd_t[1]){0}), 0);
	assert_int_equal(wait_while_written(&w, &w.session.ended_fd), 0);
	end(&w);
}

static void a_mount_that_nobody_serves_ends_when_it_is_gone(void **state)
{
	struct waiting w;

	begin(&w);
	w.d.session = NULL;
	assert_int_equal(wait_while_written(&w, &w.client), 1);
	w.d.id.dev_major = 4095;
	assert_int_equal(ld_driver_wait(&w.d, w.net, w.client), 0);
	end(&w);
}

/* ---- requests that wait ---- */

struct holding {
	struct ld_session session;
	struct ld_fs_req r;
	struct ld_image image;
	struct ld_fs_counters counters;
	struct rt_task hold;
	int held_fd, done_fd, error;
};

static struct holding *of(struct ld_fs_req *r)
{
	return container_of(r, struct holding, r);
}

static void on_reply(struct ld_fs_req *r, int error, size_t len)
{
	of(r)->error = error;
}

static void on_free(struct ld_fs_req *r)
{
	assert_int_equal(eventfd_write(of(r)->done_fd, 1), 0);
}

static void on_cancel(struct ld_fs_req *r)
{
	ld_fs_finish(r, r->cancel_error, 0);
}

static void hold(struct rt_task *t)
{
	struct holding *h = container_of(t, struct holding, hold);

	h->r.on_cancel = on_cancel;
	ld_fs_hold(&h->r);
	assert_int_equal(eventfd_write(h->held_fd, 1), 0);
}

static const struct ld_fs_req_ops ops = {on_reply, on_free};

static void cancel_body(struct rt *rt)
{
	struct holding h = {.held_fd = eventfd(0, EFD_CLOEXEC),
		.done_fd = eventfd(0, EFD_CLOEXEC)};

	ld_fs_init(&h.session.fs, &h.image);
	h.session.fs.serves_blobs = true;
	h.r = (struct ld_fs_req){.fs = &h.session.fs,
		.ops = &ops,
		.worker = rt_worker_at(rt, 0),
		.counters = &h.counters,
		.opcode = FW_READ,
		.unique = 42};
	h.hold.run = hold;
	ld_session_cancel(&h.session); /* nothing waits */
	rt_post(h.r.worker, &h.hold);
	assert_int_equal(eventfd_read(h.held_fd, (eventfd_t[1]){0}), 0);
	ld_session_cancel(&h.session);
	ld_session_cancel(&h.session);
	assert_int_equal(eventfd_read(h.done_fd, (eventfd_t[1]){0}), 0);
	assert_int_equal(h.error, -EINTR);
	ld_fs_fini(&h.session.fs);
	(void)close(h.held_fd);
	(void)close(h.done_fd);
}

static void what_waits_is_ended_once(void **state)
{
	on_engines(1, cancel_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_wait_sees_clients_and_the_end),
		cmocka_unit_test(a_mount_that_lives_on_elsewhere_is_waited_for),
		cmocka_unit_test(
			a_mount_that_nobody_serves_ends_when_it_is_gone),
		cmocka_unit_test(what_waits_is_ended_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

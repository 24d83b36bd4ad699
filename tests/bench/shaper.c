/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A wire with a round-trip time and a bandwidth, for kernels without netem:
 *
 *   shaper NETNS IF-THERE IF-HERE RTT-MS MBIT
 *
 * Makes a TUN interface in the network namespace and one here, and carries
 * packets between them. A packet leaves RTT/2 after its last bit has passed
 * through MBIT/s; what would wait for more than QUEUE_NS is dropped, as a
 * router does. TCP sees real delay and real loss. Prints "up" when it runs;
 * ends by a signal, the interfaces with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define QUEUE_NS 100000000LL /* a router's buffer */
#define MAX_PACKET 70000     /* 64 KiB of segments and their headers */
#define BURST 64             /* packets of one direction before the other's */

struct packet {
	struct packet *next;
	int64_t due;
	size_t len;
	char data[];
};

struct direction {
	int in, out;
	int64_t free_at; /* when the wire has taken the last packet */
	struct packet *head, **tail;
};

struct wire {
	int64_t delay;      /* one way */
	double ns_per_byte; /* 0: no limit */
	char buf[MAX_PACKET];
};

static void need(bool good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/*
 * A TUN interface in the present namespace. It takes segments that are not cut
 * yet (the header in front of each packet goes along), or a fast wire would
 * cost a processor.
 */
static int tun_open(const char *name)
{
	struct ifreq r = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	need(fd >= 0, "/dev/net/tun");
	(void)snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	need(ioctl(fd, TUNSETIFF, &r) == 0, name);
	need(ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) ==
			0,
		"TUNSETOFFLOAD");
	return fd;
}

static void enter(int ns, const char *what)
{
	need(ns >= 0 && setns(ns, CLONE_NEWNET) == 0, what);
}

/* Queue what has arrived. */
static void take(struct wire *w, struct direction *d)
{
	struct packet *p;
	int64_t now, start;
	ssize_t n;

	for (int i = 0; i < BURST; i++) {
		n = read(d->in, w->buf, sizeof(w->buf));
		if (n <= 0)
			return;
		now = now_ns();
		start = d->free_at > now ? d->free_at : now;
		if (start - now > QUEUE_NS)
			continue;
		d->free_at = start + (int64_t)((double)n * w->ns_per_byte);
		p = malloc(sizeof(*p) + (size_t)n);
		need(p != NULL, "memory");
		p->next = NULL;
		p->due = d->free_at + w->delay;
		p->len = (size_t)n;
		memcpy(p->data, w->buf, p->len);
		*d->tail = p;
		d->tail = &p->next;
	}
}

/* Hand over what is due; when the next one is, or -1. */
static int64_t deliver(struct direction *d)
{
	struct packet *p;

	while (d->head && d->head->due <= now_ns()) {
		p = d->head;
		/* an interface that is not up yet loses packets, as ever */
		if (write(d->out, p->data, p->len) < 0 && errno == EAGAIN)
			return now_ns() + 100000;
		d->head = p->next;
		if (!d->head)
			d->tail = &d->head;
		free(p);
	}
	return d->head ? d->head->due : -1;
}

static void carry(struct wire *w, struct direction d[2])
{
	struct pollfd fds[2];
	struct timespec wait;
	int64_t due, first;

	for (;;) {
		first = -1;
		for (int i = 0; i < 2; i++) {
			due = deliver(&d[i]);
			if (due >= 0 && (first < 0 || due < first))
				first = due;
			fds[i] = (struct pollfd){
				.fd = d[i].in, .events = POLLIN};
		}
		due = first - now_ns();
		if (first >= 0 && due < 0)
			due = 0;
		wait.tv_sec = due / 1000000000LL;
		wait.tv_nsec = due % 1000000000LL;
		if (ppoll(fds, 2, first < 0 ? NULL : &wait, NULL) < 0)
			need(errno == EINTR, "poll");
		for (int i = 0; i < 2; i++)
			take(w, &d[i]);
	}
}

int main(int argc, char **argv)
{
	static struct wire w;
	struct direction d[2];
	double mbit;
	char path[256];
	int here, there, a, b;

	if (argc != 6) {
		(void)fprintf(stderr, "usage: shaper NETNS IF-THERE IF-HERE "
				      "RTT-MS MBIT\n");
		return 2;
	}
	mbit = strtod(argv[5], NULL);
	w.delay = (int64_t)(strtod(argv[4], NULL) * 1e6 / 2);
	w.ns_per_byte = mbit > 0 ? 8000 / mbit : 0;
	(void)snprintf(path, sizeof(path), "/run/netns/%s", argv[1]);
	here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	there = open(path, O_RDONLY | O_CLOEXEC);
	enter(there, path);
	a = tun_open(argv[2]);
	enter(here, "this namespace");
	b = tun_open(argv[3]);
	d[0] = (struct direction){.in = a, .out = b, .tail = &d[0].head};
	d[1] = (struct direction){.in = b, .out = a, .tail = &d[1].head};
	/* sleeps end when they should, not 50 us later */
	(void)prctl(PR_SET_TIMERSLACK, 1UL);
	(void)puts("up");
	(void)fflush(stdout);
	carry(&w, d);
	return 0;
}

/*
 * fs/shim_loop.c: who reads requests, and how he waits for them. See shim.h for the contract, DESIGN.md for the reasons.
 *
 * One thread leads: it reads, dispatches and reads again, and only it sleeps on the device. Before a handler of its waits (store/base/slow.h) it
 * gives the lead away, which wakes one that waits for it. Back from the wait it is *active*: it answers, spins beside the new
 * leader for the next request, which most often is its own caller's, and leads again as soon as the other has found nothing to read. So
 * a wait of the hot thread costs one hand-over while the disk works, and none after it.
 */
#define FUSE_USE_VERSION 314
#include "fs/shim_internal.h"

#include "store/base/slow.h"

#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* So many fruitless spins in a row and the thread sleeps at once ... */
#define SPIN_MISSES_MAX 4u
/* ... until so many sleeps in a row were shorter than so many spins. */
#define BURST_SLEEPS 2u
#define BURST_SPINS 4u

/* ---- the lead ----------------------------------------------------------------------- */

/* What this thread is to the shim whose loop it runs. */
static _Thread_local struct part { struct shim *s; bool leads, active; } me;

static void wake_one_locked(struct shim *s)
{
	if (!s->led && s->active == 0 && s->waiting > 0)
		pthread_cond_signal(&s->lead_free);
}

static void stop_active_locked(struct shim *s)
{
	if (me.active)
		s->active--;
	me.active = false;
}

static void wait_for_lead_locked(struct shim *s)
{
	s->waiting++;
	while (s->led || s->active > 0)
		pthread_cond_wait(&s->lead_free, &s->lock);
	s->waiting--;
	s->led = true;
	me.leads = true;
}

static void take_lead(struct shim *s)
{
	pthread_mutex_lock(&s->lock);
	stop_active_locked(s);
	wait_for_lead_locked(s);
	pthread_mutex_unlock(&s->lock);
}

/* An active thread with a request in hand: nobody else might be left to read the next one. */
static void lead_if_free(struct shim *s)
{
	if (s->led)
		return;
	pthread_mutex_lock(&s->lock);
	if (!s->led) {
		stop_active_locked(s);
		s->led = true;
		me.leads = true;
	}
	pthread_mutex_unlock(&s->lock);
}

/* The leader was woken for a request that an active thread has: that one leads on. */
static bool yield_lead(struct shim *s)
{
	bool yield;

	if (s->active == 0)
		return false;
	pthread_mutex_lock(&s->lock);
	yield = s->active > 0;
	if (yield) {
		s->led = false;
		wait_for_lead_locked(s);
	}
	pthread_mutex_unlock(&s->lock);
	return yield;
}

/* Of the thread that is about to wait, or ends. */
static void leave(void)
{
	struct shim *s = me.s;

	pthread_mutex_lock(&s->lock);
	if (me.leads)
		s->led = false;
	me.leads = false;
	stop_active_locked(s);
	wake_one_locked(s);
	pthread_mutex_unlock(&s->lock);
}

static void be_active(struct shim *s)
{
	pthread_mutex_lock(&s->lock);
	s->active++;
	me.active = true;
	pthread_mutex_unlock(&s->lock);
}

bool shim_may_wait(const struct shim *s)
{
	if (me.s != s)
		return false;
	return (me.leads && s->waiting > 0) || (me.active && (s->led || s->waiting > 0));
}

/* ---- one request -------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static ssize_t read_once(struct shim *s, struct shim_buf *buf)
{
	return read(s->fd, buf->mem, buf->bytes - TAIL_BYTES);
}

static bool may_spin(struct shim *s)
{
	return s->policy.spin_us && s->misses < SPIN_MISSES_MAX;
}

/* Tries until a request comes or spin_us is over. As read(2). */
static ssize_t spin(struct shim *s, struct shim_buf *buf)
{
	uint64_t end = now_ns() + s->policy.spin_us * 1000ull;
	ssize_t n;

	do {
		n = read_once(s, buf);
		if (n >= 0 || errno != EAGAIN) {
			s->misses = 0;
			INC(s->n_spun);
			return n;
		}
	} while (!atomic_load_explicit(&s->stopping, memory_order_relaxed) && now_ns() < end);
	s->misses++;
	INC(s->n_spin_missed);
	errno = EAGAIN;
	return -1;
}

static void sleep_for_request(struct shim *s)
{
	struct pollfd p[2] = { { .fd = s->fd, .events = POLLIN },
			       { .fd = s->stop_fd, .events = POLLIN } };
	uint64_t from = s->policy.spin_us ? now_ns() : 0;

	(void)poll(p, 2, -1);	/* EINTR: the caller looks again */
	if (!s->policy.spin_us)
		return;
	if (now_ns() - from < (uint64_t)s->policy.spin_us * 1000u * BURST_SPINS)
		s->bursts++;
	else
		s->bursts = 0;
	if (s->bursts >= BURST_SLEEPS && s->misses >= SPIN_MISSES_MAX)
		s->misses = SPIN_MISSES_MAX - 1;
}

/* One request into buf, by the leader. Who has just come to lead does not spin at first: the one he leads for may be back soon, and would
 * find his core taken. Returns its length, 0 when the loop shall end, or -errno. */
static ssize_t receive(struct shim *s, struct shim_buf *buf, bool fresh)
{
	ssize_t n = -1;
	bool waited = false;

	for (;;) {
		if (atomic_load(&s->stopping) || atomic_load(&s->ended))
			return 0;
		n = read_once(s, buf);
		if (n >= 0) {
			if (waited)
				INC(s->n_slept);
			else
				INC(s->n_ready);
			if (!waited)
				s->misses = 0;
			return n;
		}
		if (errno == EAGAIN && waited && yield_lead(s)) {
			fresh = true;
			errno = EAGAIN;
		} else if (errno == EAGAIN && !fresh && may_spin(s)) {
			n = spin(s, buf);
			if (n >= 0)
				return n;
		}
		if (errno == EAGAIN) {
			sleep_for_request(s);
			fresh = false;
			waited = true;
		} else if (errno != EINTR && errno != ENOENT) {
			return -errno;	/* ENOENT: it was interrupted before we had it */
		}
	}
}

/* The next request of a thread of the loop, which leads or is active when it has one. */
static ssize_t next(struct shim *s, struct shim_buf *buf, bool first)
{
	ssize_t n;

	if (me.leads)
		return receive(s, buf, false);
	if (me.active || !first) {
		if (!me.active)
			be_active(s);
		lead_if_free(s);
		if (me.leads)
			return receive(s, buf, false);
		n = may_spin(s) ? spin(s, buf) : -1;
		if (n > 0) {
			lead_if_free(s);
			return n;
		}
	}
	take_lead(s);
	return receive(s, buf, true);
}

/* ---- the loop ----------------------------------------------------------------------- */

/* All threads of the loop end for the first one's reason. */
static int end_of(struct shim *s, ssize_t err)
{
	int end = err == 0 ? SHIM_STOPPED : err == -ENODEV ? SHIM_UNMOUNTED
		  : err == -ECONNABORTED ? SHIM_ABORTED : (int)err;
	int none = 0;

	atomic_compare_exchange_strong(&s->ended, &none, end < 0 ? end : 1 + end);
	if (!atomic_load(&s->stopping))
		shim_stop(s);
	end = atomic_load(&s->ended);
	return end < 0 ? end : end - 1;
}

int shim_loop(struct shim *s)
{
	struct shim_buf buf = { 0 };
	int end = s->bufs.get(s->bufs.ctx, &buf);
	bool first = true;

	if (end)
		return end;
	me = (struct part){ .s = s };
	for (;;) {
		ssize_t n;

		memset(buf.mem, 0, sizeof(struct fuse_in_header));
		n = next(s, &buf, first);
		first = false;
		if (n <= 0) {
			end = end_of(s, n);
			break;
		}
		INC(s->n_requests);
		slow_hook = leave;	/* also where nobody waits for the lead now: he may before this request is done */
		(void)shim_dispatch(s, &buf, (size_t)n);
		slow_hook = NULL;
		if (fuse_session_exited(s->se) && !atomic_load(&s->neg_done)) {
			end = end_of(s, -EPROTO);
			break;
		}
	}
	leave();
	me.s = NULL;
	shim_put(s, &buf);
	return end;
}

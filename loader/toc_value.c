/* SPDX-License-Identifier: Apache-2.0 */
/* Times and digests inside a TOC; see toc.h. */
#include <errno.h>

#include "loader/toc.h"
#include "runtime/base/util.h"

/* Days from 1970-01-01, proleptic Gregorian calendar; years begin in March. */
static int64_t days_of(int64_t year, unsigned month, unsigned day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = y / 400; /* years begin with 1 here */
	int64_t in_era = y - era * 400;
	int64_t m = month > 2 ? month - 3 : month + 9;
	int64_t in_year = (153 * m + 2) / 5 + day - 1;

	return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 +
	       in_year - 719468;
}

static unsigned days_in_month(unsigned year, unsigned month)
{
	static const uint8_t days[] = {
		31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return month == 2 && is_leap ? 29 : days[month - 1];
}

struct text {
	const char *p, *end;
};

/* Exactly n digits, a value of at most max, then the character next (0: any).
 */
static bool take_number(
	struct text *t, unsigned n, unsigned max, char next, unsigned *ret)
{
	unsigned v = 0;

	for (; n > 0; n--, t->p++) {
		if (t->p == t->end || *t->p < '0' || *t->p > '9')
			return false;
		v = v * 10 + (unsigned)(*t->p - '0');
	}
	if (v > max)
		return false;
	*ret = v;
	if (next == '\0')
		return true;
	return t->p < t->end && *t->p++ == next;
}

/* ".5" is 500000000; digits behind the ninth are cut. */
static bool take_fraction(struct text *t, uint32_t *ret_ns)
{
	uint32_t ns = 0, unit = 100000000;
	const char *start;

	*ret_ns = 0;
	if (t->p == t->end || *t->p != '.')
		return true;
	start = ++t->p;
	for (; t->p < t->end && *t->p >= '0' && *t->p <= '9'; t->p++) {
		ns += unit * (uint32_t)(*t->p - '0');
		unit /= 10;
	}
	*ret_ns = ns;
	return t->p > start;
}

/* "Z" or "+hh:mm", to the end. */
static bool take_zone(struct text *t, int64_t *ret_sec)
{
	unsigned h, m;
	char sign;

	*ret_sec = 0;
	if (t->p == t->end)
		return false;
	sign = *t->p++;
	if (sign == 'Z')
		return t->p == t->end;
	if (sign != '+' && sign != '-')
		return false;
	if (!take_number(t, 2, 23, ':', &h) || !take_number(t, 2, 59, 0, &m))
		return false;
	*ret_sec = (int64_t)(h * 3600 + m * 60) * (sign == '-' ? -1 : 1);
	return t->p == t->end;
}

int toc_time_parse(const char *s, size_t n, int64_t *ret_sec, uint32_t *ret_ns)
{
	struct text t = {.p = s, .end = s + n};
	unsigned year, month, day, h, min, sec;
	int64_t zone, at;
	uint32_t ns;

	if (!take_number(&t, 4, 9999, '-', &year) || year == 0 ||
		!take_number(&t, 2, 12, '-', &month) || month == 0 ||
		!take_number(&t, 2, 31, 'T', &day) || day == 0 ||
		day > days_in_month(year, month) ||
		!take_number(&t, 2, 23, ':', &h) ||
		!take_number(&t, 2, 59, ':', &min) ||
		!take_number(&t, 2, 59, 0, &sec) || !take_fraction(&t, &ns) ||
		!take_zone(&t, &zone))
		return -EPROTO;
	at = days_of(year, month, day) * 86400 + h * 3600 + min * 60 + sec -
	     zone;
	if (at == days_of(1, 1, 1) * 86400 && ns == 0)
		at = 0;
	*ret_sec = at;
	*ret_ns = ns;
	return 0;
}

int toc_digest_is_of_zeros(const struct digest *d, uint64_t len)
{
	static const uint8_t zeros[65536];
	struct digest_ctx *h;
	struct digest sum;
	uint64_t n;
	int r;

	r = digest_ctx_create(d->algo, &h);
	if (r)
		return r;
	for (; len > 0 && !r; len -= n) {
		n = min_u64(len, sizeof(zeros));
		r = digest_ctx_update(h, zeros, (size_t)n);
	}
	if (!r)
		r = digest_ctx_final(h, &sum);
	digest_ctx_destroy(h);
	return r ? r : digest_is_equal(&sum, d);
}

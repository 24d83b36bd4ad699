/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing sizes; see size.h. */
#include "loader/size.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool ld_size_read(const char *s, uint64_t *ret)
{
	static const char units[] = "KMGTkmgt";
	size_t n = strspn(s, "0123456789");
	unsigned shift = 0;
	uint64_t v = 0, i;
	const char *unit;

	if (n == 0 || n > 15)
		return false;
	for (i = 0; i < n; i++)
		v = v * 10 + (uint64_t)(s[i] - '0');
	if (s[n]) {
		unit = strchr(units, s[n]);
		if (!unit || s[n + 1])
			return false;
		shift = 10 * (unsigned)((unit - units) % 4 + 1);
	}
	if (v > UINT64_C(1) << (60 - shift))
		return false;
	*ret = v << shift;
	return true;
}

char *ld_size_text(uint64_t bytes, char ret[32])
{
	static const char units[] = "KMGTPE";
	double v = (double)bytes;
	size_t i;

	if (bytes < 1024) {
		(void)snprintf(ret, 32, "%" PRIu64 " B", bytes);
		return ret;
	}
	for (i = 0; v >= 1024 * 1024 && i + 2 < sizeof(units); i++)
		v /= 1024;
	(void)snprintf(ret, 32, "%.1f %ciB", v / 1024, units[i]);
	return ret;
}

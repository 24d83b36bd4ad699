/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C, four bits at a time: a small table, as only small things use it. */
#include "runtime/base/crc32c.h"

/* Remainders of the 16 values of four bits, polynomial 0x82f63b78. */
static const uint32_t nibbles[16] = {
	0x00000000,
	0x105ec76f,
	0x20bd8ede,
	0x30e349b1,
	0x417b1dbc,
	0x5125dad3,
	0x61c69362,
	0x7198540d,
	0x82f63b78,
	0x92a8fc17,
	0xa24bb5a6,
	0xb21572c9,
	0xc38d26c4,
	0xd3d3e1ab,
	0xe330a81a,
	0xf36e6f75,
};

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
	const uint8_t *b = p;

	while (n-- > 0) {
		crc ^= *b++;
		crc = crc >> 4 ^ nibbles[crc & 15];
		crc = crc >> 4 ^ nibbles[crc & 15];
	}
	return crc;
}

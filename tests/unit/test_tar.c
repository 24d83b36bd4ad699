/* SPDX-License-Identifier: Apache-2.0 */
/* What the tar parser understands, feature by feature. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "loader/tar_layer.h"
#include "runtime/base/util.h"

/* ---- making tars ---- */

struct head {
	const char *name, *size, *link, *mtime, *uid, *gid, *mode, *prefix;
	char type;
	bool is_gnu;
};

static void put(uint8_t *h, size_t at, const char *s, size_t max)
{
	if (s)
		memcpy(h + at, s, strnlen(s, max));
}

static void add_sum(uint8_t *h)
{
	unsigned sum = 0;
	size_t i;

	memset(h + 148, ' ', 8);
	for (i = 0; i < 512; i++)
		sum += h[i];
	(void)snprintf((char *)h + 148, 8, "%06o", sum);
}

static uint8_t *add_head(struct buf *b, const struct head *d)
{
	uint8_t *h;

	assert_int_equal(buf_append_zeros(b, 512), 0);
	h = b->data + b->len - 512;
	put(h, 0, d->name, 100);
	put(h, 100, d->mode ? d->mode : "0644", 8);
	put(h, 108, d->uid ? d->uid : "0", 8);
	put(h, 116, d->gid ? d->gid : "0", 8);
	put(h, 124, d->size ? d->size : "0", 12);
	put(h, 136, d->mtime ? d->mtime : "0", 12);
	h[156] = (uint8_t)(d->type ? d->type : '0');
	put(h, 157, d->link, 100);
	if (d->is_gnu)
		memcpy(h + 257, "ustar  ", 8);
	else
		memcpy(h + 257,
			"ustar\0"
			"00",
			8);
	put(h, 345, d->prefix, 155);
	add_sum(h);
	return h;
}

static void add_data(struct buf *b, const char *s, size_t n)
{
	assert_int_equal(buf_append(b, s, n), 0);
	assert_int_equal(buf_append_zeros(b, -n % 512), 0);
}

/* A header of this type whose contents are n bytes at s. */
static void add_meta(struct buf *b, char type, const char *s, size_t n)
{
	char size[12];

	(void)snprintf(size, sizeof(size), "%o", (unsigned)n);
	add_head(b, &(struct head){.name = "meta", .type = type, .size = size});
	add_data(b, s, n);
}

static void add_pax(struct buf *b, const char *records)
{
	add_meta(b, 'x', records, strlen(records));
}

static void parse(struct buf *b, struct ld_layer *ret)
{
	const struct digest blob = {.algo = DIGEST_SHA256};
	struct ld_tar_layer t;
	struct err e = {0};
	size_t at, n;

	*ret = (struct ld_layer){0};
	assert_int_equal(buf_append_zeros(b, 1024), 0);
	assert_int_equal(ld_tar_layer_init(&t, &blob, &e), 0);
	for (at = 0; at < b->len; at += n) {
		n = (size_t)min_u64(777, b->len - at);
		if (ld_tar_layer_feed(&t, b->data + at, n, &e) < 0)
			fail_msg("%s", e.text);
	}
	assert_int_equal(ld_tar_layer_finish(&t, ret, &e), 0);
	ld_tar_layer_fini(&t);
	buf_fini(b);
}

static struct ld_inode *find(struct ld_layer *l, const char *path)
{
	struct ld_inode *i = ld_tree_find(l->tree, path, strlen(path));

	if (!i)
		fail_msg("'%s' is not there", path);
	return i;
}

/* ---- tests ---- */

static void a_file_lies_where_the_tar_has_it(void **state)
{
	struct buf b = {0};
	struct ld_layer l;
	struct ld_inode *i;

	buf_init(&b, 0);
	add_head(&b, &(struct head){.name = "./d/",
			     .type = '5',
			     .mode = "0750",
			     .uid = "17",
			     .gid = "21",
			     .mtime = "10"});
	add_head(
		&b, &(struct head){.name = "d/f", .size = "5", .mode = "4755"});
	add_data(&b, "hello", 5);
	add_head(&b, &(struct head){.name = "g", .size = "1000"});
	assert_int_equal(buf_append_zeros(&b, 512), 0);
	parse(&b, &l);
	i = find(&l, "d");
	assert_int_equal(i->attr.mode, S_IFDIR | 0750);
	assert_int_equal(i->attr.uid, 15);
	assert_int_equal(i->attr.gid, 17);
	assert_int_equal(i->attr.mtime, 8);
	i = find(&l, "d/f");
	assert_int_equal(i->attr.mode, S_IFREG | 04755);
	assert_int_equal(i->size, 5);
	assert_int_equal(i->extent_count, 1);
	assert_int_equal(i->extents[0].dev_off, 1024);
	assert_int_equal(find(&l, "g")->extents[0].dev_off, 2048);
	assert_int_equal(l.entries, 3);
	assert_int_equal(ld_tree_blob(l.tree, 0)->device_size, 3584);
	ld_layer_fini(&l);
}

static void names_come_from_prefix_long_headers_and_pax(void **state)
{
	char longer[301], record[400];
	struct ld_layer l;
	struct buf b;

	buf_init(&b, 0);
	memset(longer, 'n', 200);
	memcpy(longer + 200, "/x", 3);
	add_head(&b, &(struct head){.name = "name", .prefix = "pre/fix"});
	add_meta(&b, 'L', longer, 203);
	add_meta(&b, 'K', "target", 7);
	add_head(&b, &(struct head){.name = "cut",
			     .link = "cut",
			     .type = '2',
			     .is_gnu = true});
	add_pax(&b, "13 path=px/p\n"
		    "16 linkpath=far\n");
	add_head(&b, &(struct head){.name = "cut", .type = '2'});
	/* GNU's old headers have times where others have a prefix */
	add_head(&b,
		&(struct head){.name = "gnu", .prefix = "123", .is_gnu = true});
	(void)snprintf(record, sizeof(record), "16 path=raw\xff\xfe/a\n");
	add_pax(&b, record);
	add_head(&b, &(struct head){.name = "cut"});
	parse(&b, &l);
	(void)find(&l, "pre/fix/name");
	assert_string_equal(find(&l, longer)->target, "target");
	assert_string_equal(find(&l, "px/p")->target, "far");
	(void)find(&l, "gnu");
	(void)find(&l, "raw\xff\xfe/a");
	ld_layer_fini(&l);
}

static void numbers_may_be_base_256_and_pax(void **state)
{
	struct ld_layer l;
	struct ld_inode *i;
	struct buf b;
	uint8_t *h;

	buf_init(&b, 0);
	h = add_head(&b, &(struct head){.name = "past"});
	memset(h + 136, 0xff, 12); /* -1 */
	h[108] = 0x80;
	memcpy(h + 109, "\0\0\0\0\1\0\0", 7);
	add_sum(h);
	add_pax(&b, "17 mtime=-12.345\n"
		    "14 uid=100000\n"
		    "12 gid=7777\n");
	add_head(&b, &(struct head){.name = "pax", .uid = "1", .gid = "1"});
	add_pax(&b, "30 mtime=7258118400.123456789\n");
	add_head(&b, &(struct head){.name = "future"});
	parse(&b, &l);
	i = find(&l, "past");
	assert_int_equal(i->attr.mtime, -1);
	assert_int_equal(i->attr.uid, 65536);
	i = find(&l, "pax");
	assert_int_equal(i->attr.mtime, -13);
	assert_int_equal(i->attr.mtime_ns, 655000000);
	assert_int_equal(i->attr.uid, 100000);
	assert_int_equal(i->attr.gid, 7777);
	i = find(&l, "future");
	assert_int_equal(i->attr.mtime, 7258118400);
	assert_int_equal(i->attr.mtime_ns, 123456789);
	ld_layer_fini(&l);
}

static void xattrs_are_kept_but_not_those_that_mean_something(void **state)
{
	static const char records[] =
		"27 SCHILY.xattr.user.a=v\0w\n"
		"25 SCHILY.xattr.user.e=\n\n" /* the value is a newline */
		"25 SCHILY.xattr.user.no=\n"
		"44 SCHILY.xattr.trusted.overlay.opaque=yyyy\n"
		"39 SCHILY.xattr.trusted.sluice.link=ab\n"
		"26 SCHILY.xattr.com.x.y=1\n";
	const struct ld_xattr *x;
	struct ld_layer l;
	struct ld_inode *i;
	struct buf b;

	buf_init(&b, 0);
	add_meta(&b, 'x', records, sizeof(records) - 1);
	add_head(&b, &(struct head){.name = "f"});
	add_head(&b, &(struct head){.name = "g"});
	parse(&b, &l);
	i = find(&l, "f");
	x = ld_tree_xattr(i, "user.a");
	assert_non_null(x);
	assert_int_equal(x->value_len, 3);
	assert_memory_equal(x->value, "v\0w", 3);
	assert_non_null(ld_tree_xattr(i, "user.e"));
	assert_int_equal(i->xattr_count, 2);
	assert_int_equal(find(&l, "g")->xattr_count, 0);
	ld_layer_fini(&l);
}

static void links_lead_to_what_is_there_so_far_or_below(void **state)
{
	const struct ld_xattr *x;
	struct ld_layer l;
	struct buf b;

	buf_init(&b, 0);
	add_head(&b, &(struct head){.name = "a", .size = "1"});
	add_data(&b, "1", 1);
	add_head(&b,
		&(struct head){
			.name = "b", .type = '1', .link = "./a", .size = "1"});
	add_head(&b, &(struct head){.name = "a", .size = "2"});
	add_data(&b, "22", 2);
	add_head(&b,
		&(struct head){.name = "c", .type = '1', .link = "/low/er"});
	add_head(&b, &(struct head){.name = "dev", .type = '4'});
	parse(&b, &l);
	assert_int_equal(find(&l, "b")->size, 1);
	assert_int_equal(find(&l, "a")->size, 2);
	x = ld_tree_xattr(find(&l, "c"), LD_XATTR_LINK);
	assert_non_null(x);
	assert_int_equal(x->value_len, 6);
	assert_memory_equal(x->value, "low/er", 6);
	assert_true(S_ISBLK(find(&l, "dev")->attr.mode));
	ld_layer_fini(&l);
}

static void whiteouts_and_global_headers(void **state)
{
	struct ld_layer l;
	struct buf b;

	buf_init(&b, 0);
	add_meta(&b, 'g', "12 path=abc\n", 12);
	add_head(&b, &(struct head){.name = "d/.wh.gone"});
	add_head(&b, &(struct head){.name = "o/.wh..wh..opq"});
	add_head(&b, &(struct head){.name = ".wh..wh.plnk/1"});
	parse(&b, &l);
	assert_true(ld_inode_is_whiteout(find(&l, "d/gone")));
	assert_true(find(&l, "o")->opaque);
	assert_null(ld_tree_find(l.tree, "abc", 3));
	assert_int_equal(l.entries, 0);
	/* nothing in it has data */
	assert_int_equal(ld_tree_blob_count(l.tree), 0);
	ld_layer_fini(&l);
}

static void check_sparse(struct ld_layer *l, const char *name, uint64_t first)
{
	struct ld_inode *i = find(l, name);

	assert_int_equal(i->size, 1u << 20);
	assert_int_equal(i->extent_count, 2);
	assert_int_equal(i->extents[0].file_off, 4096);
	assert_int_equal(i->extents[0].len, 512);
	assert_int_equal(i->extents[0].dev_off, first);
	assert_int_equal(i->extents[1].file_off, 65536);
	assert_int_equal(i->extents[1].len, 512);
	assert_int_equal(i->extents[1].dev_off, first + 512);
}

static void sparse_files_of_every_format(void **state)
{
	static const char map[] = "3\n4096\n512\n65536\n512\n1048576\n0\n";
	uint64_t at[4];
	struct ld_layer l;
	struct buf b;
	uint8_t *h;

	buf_init(&b, 0);
	h = add_head(&b, &(struct head){.name = "gnu",
				 .type = 'S',
				 .size = "2000",
				 .is_gnu = true});
	put(h, 386, "00000010000", 12);
	put(h, 398, "00000001000", 12);
	put(h, 410, "00000200000", 12);
	put(h, 422, "00000001000", 12);
	put(h, 483, "00004000000", 12);
	add_sum(h);
	at[0] = b.len;
	assert_int_equal(buf_append_zeros(&b, 1024), 0);
	add_pax(&b, "27 GNU.sparse.size=1048576\n"
		    "26 GNU.sparse.offset=4096\n"
		    "27 GNU.sparse.numbytes=512\n"
		    "27 GNU.sparse.offset=65536\n"
		    "27 GNU.sparse.numbytes=512\n");
	add_head(&b, &(struct head){.name = "pax00", .size = "2000"});
	at[1] = b.len;
	assert_int_equal(buf_append_zeros(&b, 1024), 0);
	add_pax(&b, "27 GNU.sparse.size=1048576\n"
		    "25 GNU.sparse.name=pax01\n"
		    "37 GNU.sparse.map=4096,512,65536,512\n");
	add_head(&b, &(struct head){.name = "other", .size = "2000"});
	at[2] = b.len;
	assert_int_equal(buf_append_zeros(&b, 1024), 0);
	add_pax(&b, "22 GNU.sparse.major=1\n"
		    "22 GNU.sparse.minor=0\n"
		    "25 GNU.sparse.name=pax10\n"
		    "31 GNU.sparse.realsize=1048576\n");
	add_head(&b, &(struct head){.name = "other", .size = "3000"});
	add_data(&b, map, sizeof(map) - 1);
	at[3] = b.len;
	assert_int_equal(buf_append_zeros(&b, 1024), 0);
	add_head(&b, &(struct head){.name = "behind"});
	parse(&b, &l);
	check_sparse(&l, "gnu", at[0]);
	check_sparse(&l, "pax00", at[1]);
	check_sparse(&l, "pax01", at[2]);
	check_sparse(&l, "pax10", at[3]);
	assert_null(ld_tree_find(l.tree, "other", 5));
	(void)find(&l, "behind");
	ld_layer_fini(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_lies_where_the_tar_has_it),
		cmocka_unit_test(names_come_from_prefix_long_headers_and_pax),
		cmocka_unit_test(numbers_may_be_base_256_and_pax),
		cmocka_unit_test(
			xattrs_are_kept_but_not_those_that_mean_something),
		cmocka_unit_test(links_lead_to_what_is_there_so_far_or_below),
		cmocka_unit_test(whiteouts_and_global_headers),
		cmocka_unit_test(sparse_files_of_every_format),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

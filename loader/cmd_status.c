/* SPDX-License-Identifier: Apache-2.0 */
/* status: ask the process behind a mount, or list all mounts. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#include "loader/cmd.h"
#include "loader/control.h"
#include "loader/json.h"
#include "loader/status.h"

#define MAX_ANSWER (16u << 20)

static int out_of_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static int print_json(const json_t *o, struct err *e)
{
	struct buf b;
	int ret;

	buf_init(&b, 2 * MAX_ANSWER);
	ret = ld_json_write(o, JSON_INDENT(2), &b);
	if (ret == 0)
		(void)printf("%.*s\n", (int)b.len, (char *)b.data);
	buf_fini(&b);
	return ret < 0 ? out_of_memory(e) : 0;
}

static int status_of(const char *name, bool as_json, struct err *e)
{
	char dir[4096];
	struct buf b;
	json_t *o;
	int ret;

	ret = ld_control_resolve(name, dir, e);
	if (ret < 0)
		return ret;
	buf_init(&b, MAX_ANSWER);
	ret = ld_control_ask(dir, "status", &b, e);
	if (ret == 0) {
		o = json_loadb((char *)b.data, b.len, 0, NULL);
		if (!o)
			ret = err_set(e, -EIO,
				"the process that serves '%s' does not answer "
				"in JSON",
				dir);
		else if (as_json)
			ret = print_json(o, e);
		else
			ld_status_print(o, stdout);
		json_decref(o);
	}
	buf_fini(&b);
	return ret;
}

static int print_run(void *arg, const struct ld_run *r)
{
	char pid[24] = "-";

	if (r->pid > 0)
		(void)snprintf(pid, sizeof(pid), "%ld", (long)r->pid);
	(void)printf("%-8s %s %s%s\n", pid, r->dir, r->image,
		r->is_ready ? "" : " (being mounted)");
	return 0;
}

static int add_run(void *arg, const struct ld_run *r)
{
	json_t *list = arg;

	return json_array_append_new(list,
		       json_pack("{s:s, s:s, s:o, s:b}", "dir", r->dir, "image",
			       r->image, "pid",
			       r->pid > 0 ? json_integer(r->pid) : json_null(),
			       "ready", (int)r->is_ready)) < 0
	               ? -ENOMEM
	               : 0;
}

static int status_of_all(bool as_json, struct err *e)
{
	json_t *list;
	int ret;

	if (!as_json)
		return ld_control_list(print_run, NULL, e);
	list = json_array();
	if (!list)
		return out_of_memory(e);
	ret = ld_control_list(add_run, list, e);
	if (ret == 0)
		ret = print_json(list, e);
	json_decref(list);
	return ret;
}

int ld_cmd_status(struct ld_cli *c, struct err *e)
{
	if (c->arg_count == 0)
		return status_of_all(c->json, e);
	return status_of(c->args[0], c->json, e);
}

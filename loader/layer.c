/* SPDX-License-Identifier: Apache-2.0 */
/* What a layer is; see layer.h. */
#include "loader/layer.h"

#include <string.h>

#include "runtime/base/util.h"

const char *ld_format_name(enum ld_format f)
{
	switch (f) {
	case LD_FORMAT_TAR:
		return "tar";
	case LD_FORMAT_TAR_GZIP:
		return "tar+gzip";
	case LD_FORMAT_TAR_ZSTD:
		return "tar+zstd";
	case LD_FORMAT_ESTARGZ:
		return "estargz";
	case LD_FORMAT_ZSTD_CHUNKED:
		return "zstd:chunked";
	case LD_FORMAT_RAFS_V5:
		return "rafs-v5";
	case LD_FORMAT_RAFS_V6:
		return "rafs-v6";
	case LD_FORMAT_NYDUS_V3:
		return "nydus-v3";
	case LD_FORMAT_UNKNOWN:
		break;
	}
	return "unknown";
}

void ld_layer_fini(struct ld_layer *l)
{
	ld_tree_destroy(l->tree);
	buf_fini(&l->map);
	bc_spool_close(&l->spool);
	*l = (struct ld_layer){0};
}

/* ---- recognising ---- */

/* The media types of layers, without "; parameters". */
static const struct {
	const char *type;
	enum ld_format format;
} media_types[] = {
	{"application/vnd.oci.image.layer.v1.tar", LD_FORMAT_TAR},
	{"application/vnd.oci.image.layer.v1.tar+gzip", LD_FORMAT_TAR_GZIP},
	{"application/vnd.oci.image.layer.v1.tar+zstd", LD_FORMAT_TAR_ZSTD},
	{"application/vnd.oci.image.layer.nondistributable.v1.tar",
		LD_FORMAT_TAR},
	{"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		LD_FORMAT_TAR_GZIP},
	{"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
		LD_FORMAT_TAR_ZSTD},
	{"application/vnd.docker.image.rootfs.diff.tar", LD_FORMAT_TAR},
	{"application/vnd.docker.image.rootfs.diff.tar.gzip",
		LD_FORMAT_TAR_GZIP},
	{"application/vnd.docker.image.rootfs.diff.tar.zstd",
		LD_FORMAT_TAR_ZSTD},
	{"application/vnd.docker.image.rootfs.foreign.diff.tar", LD_FORMAT_TAR},
	{"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		LD_FORMAT_TAR_GZIP},
	{"application/vnd.oci.image.layer.nydus.blob.v1", LD_FORMAT_RAFS_V6},
};

static enum ld_format format_of_media_type(const char *type)
{
	size_t len = strcspn(type, "; ");

	for (size_t i = 0; i < ARRAY_LEN(media_types); i++)
		if (strlen(media_types[i].type) == len &&
			!strncmp(type, media_types[i].type, len))
			return media_types[i].format;
	return LD_FORMAT_UNKNOWN;
}

bool ld_layer_is_plain(enum ld_format f)
{
	return f == LD_FORMAT_TAR || f == LD_FORMAT_TAR_GZIP ||
	       f == LD_FORMAT_TAR_ZSTD;
}

enum ld_format ld_layer_recognise(
	const struct ld_layer_desc *d, bool *ret_lazy, const char **ret_why)
{
	const char *type = d->media_type ? d->media_type : "";
	enum ld_format f = format_of_media_type(type);
	bool has_toc = d->toc.algo != DIGEST_NONE;

	*ret_lazy = false;
	switch (f) {
	case LD_FORMAT_TAR_GZIP:
		if (!has_toc || !d->toc_is_estargz) {
			*ret_why = "no eStargz TOC digest in the manifest: the "
				   "whole layer is read before its first mount";
			return f;
		}
		f = LD_FORMAT_ESTARGZ;
		break;
	case LD_FORMAT_TAR_ZSTD:
		if (!has_toc || d->toc_is_estargz) {
			*ret_why = "no zstd:chunked TOC digest in the "
				   "manifest: the whole layer is read before "
				   "its first mount";
			return f;
		}
		f = LD_FORMAT_ZSTD_CHUNKED;
		break;
	case LD_FORMAT_TAR:
		*ret_why = "a tar without a table of contents: the whole layer "
			   "is read before its first mount";
		return f;
	case LD_FORMAT_RAFS_V6:
		*ret_why = "a RAFS blob of a Nydus image, described by the "
			   "image's bootstrap";
		return f;
	default:
		*ret_why = strstr(type, "+encrypted")
		                   ? "the layer is encrypted"
		                   : "the media type is not known";
		return f;
	}
	*ret_lazy = true;
	*ret_why = "the TOC digest is in the manifest";
	return f;
}

# SPDX-License-Identifier: Apache-2.0
"""A registry behind something that strips ranges: images come once, whole."""
import os
import re

import pytest

import tools

SITE = "max_ranges 0; proxy_set_header Range ''; location / { proxy_pass http://REGISTRY; }"


def blob_bytes(log):
    """Body bytes of all blobs that nginx has sent."""
    with open(log, encoding="utf-8") as f:
        return sum(int(n) for n in re.findall(r'"GET /v2/[^ ]*/blobs/[^"]*" 200 (\d+)', f.read()))


@pytest.mark.parametrize("sample", ["edge-zstdchunked", "edge-gzip"])
def test_a_registry_without_ranges_is_read_once(sample, samples, cache, tmp_path):
    host, name = samples[sample].split("/", 1)
    nginx = tools.Nginx(tmp_path / "nginx", site=SITE.replace("REGISTRY", host))
    with nginx:
        tools.sluice("fetch", "-q", "--cache", cache, f"{nginx.host}/{name}")
        tools.sluice("fetch", "-q", "--cache", cache, f"{nginx.host}/{name}")
    size = sum(os.stat(os.path.join(d, f)).st_blocks * 512
               for d, _, files in os.walk(cache) for f in files if f == "data")
    sent = blob_bytes(tmp_path / "nginx" / "access.log")
    assert size > 1 << 20
    # The TOC is read before the blob: its stream, and one range that was ignored.
    assert sent < 4 * size, f"{sent} bytes for {size}"
    tools.sluice("check", "--cache", cache, f"{nginx.host}/{name}", check=False)

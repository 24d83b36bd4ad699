# SPDX-License-Identifier: Apache-2.0
"""Mirrors of registries.conf(5): real pull-through caches before a registry."""
import hashlib
import os

import pytest

import tools

# What blobcache/README.md shows, with the hosts filled in.
NGINX_SITE = """
    location ~ ^/v2/.*/blobs/ {
        slice 1m;
        proxy_cache blobs;
        proxy_cache_key $uri$slice_range;
        proxy_set_header Range $slice_range;
        proxy_cache_valid 200 206 30d;
        proxy_pass http://REGISTRY;
    }
    location / { proxy_pass http://REGISTRY; }
"""


@pytest.fixture(name="conf")
def conf_file(tmp_path):
    """Writes registries.conf; gives the environment that names it."""
    def write(text):
        path = tmp_path / "registries.conf"
        path.write_text(text)
        return {"CONTAINERS_REGISTRIES_CONF": str(path)}
    return write


def mirrored(own, mirror):
    return (f"[[registry]]\nlocation = '{own.host}'\n"
            f"[[registry.mirror]]\nlocation = '{mirror.host}'\n")


def files_of(truth):
    # Where a TOC cannot spell a name, the mount shows another one.
    return [n for n, e in sorted(truth.items())
            if e.get("size") and "sha256" in e and b"raw" not in n]


def read(mnt, names, truth):
    for n in names:
        with open(os.path.join(os.fsencode(mnt), n), "rb") as f:
            assert hashlib.sha256(f.read()).hexdigest() == truth[n]["sha256"], n


def test_pull_through_registry_dies_and_comes_back(own, conf, cache, mnt, tmp_path, edge_truth):
    names = files_of(edge_truth)
    with tools.Registry(tmp_path / "proxy", proxy_of=own.host) as mirror:
        tools.mount(cache, own.ref, mnt, env=conf(mirrored(own, mirror)))
        read(mnt, names[::3], edge_truth)
        assert f"ns={own.host.replace(':', '%3A')}" in mirror.log() or f"ns={own.host}" in mirror.log()
        mirror.stop()
        read(mnt, names[1::3], edge_truth)
        assert not tools.status(mnt)["offline"]
        mirror.start()
        read(mnt, names, edge_truth)
        tools.umount(mnt)


def test_nginx_cache_serves_what_its_registry_no_longer_can(
        own, conf, cache, mnt, tmp_path, edge_truth):
    names = files_of(edge_truth)
    nginx = tools.Nginx(tmp_path / "nginx", site=NGINX_SITE.replace("REGISTRY", own.host))
    nginx.more = f"proxy_cache_path {tmp_path}/blobs keys_zone=blobs:1m;"
    with nginx:
        env = conf(mirrored(own, nginx))
        tools.mount(cache, own.ref, mnt, env=env)
        read(mnt, names, edge_truth)
        tools.umount(mnt)
        fetched = own.log().count("GET /v2/x/y/blobs")
        # An empty cache, and nobody behind the mirror for what it has.
        other = tmp_path / "other"
        tools.mount(other, own.ref, mnt, env=env)
        own.stop()
        read(mnt, names, edge_truth)
        tools.umount(mnt)
        assert fetched > 0


def test_blocked_and_broken_configurations_are_named(own, conf, cache, mnt):
    env = conf(f"[[registry]]\nprefix = '{own.host}/x'\nlocation = 'a/x'\nblocked = true\n")
    p = tools.sluice("mount", "--cache", cache, own.ref, mnt, env=env, check=False)
    assert "is blocked by" in tools.one_sentence(p, 4)
    env = conf("[[registry]]\nlocation = 7\n")
    p = tools.sluice("mount", "--cache", cache, own.ref, mnt, env=env, check=False)
    assert "registries.conf" in tools.one_sentence(p, 1)


def test_a_location_elsewhere_is_used_by_everything(own, conf, cache, mnt, edge_truth):
    env = conf(f"[[registry]]\nprefix = 'example.invalid/z'\nlocation = '{own.host}/x'\n")
    tools.mount(cache, "example.invalid/z/y:1", mnt, env=env)
    read(mnt, files_of(edge_truth)[:5], edge_truth)
    assert tools.status(mnt)["image"].startswith("example.invalid/z/y")
    tools.umount(mnt)

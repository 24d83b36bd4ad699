"""What a tag costs: one GET when its manifest is new, one HEAD when it is known."""
import hashlib
import json
import os
import shutil

import pytest

import tools
from conftest import SAMPLES
from test_manifests import LayoutServer, Layout, entry, image, index, name, which


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture(name="server")
def layout_server(tmp_path):
    layout = Layout(str(tmp_path / "o"))
    name(layout, image(layout, "one"))
    with LayoutServer(layout.path) as s:
        s.announce = digest_of
        s.images = layout
        yield s


def manifests_asked(server):
    """Method and last word of the path of each request for one; forgets them."""
    asked = [(m, path.rsplit("/", 1)[1])
             for m, (path, _) in zip(server.methods, server.asked) if "/manifests/" in path]
    server.methods.clear()
    server.asked.clear()
    return asked


@pytest.mark.parametrize("announces", [True, False])
def test_first_mount_gets_the_tag_and_later_ones_only_look(announces, server, cache, mnt):
    server.announce = digest_of if announces else None
    assert which(server, cache, mnt) == "one"
    assert manifests_asked(server) == [("GET", "1")]
    assert which(server, cache, mnt) == "one"
    # what announces no digest has to be read to know it
    assert manifests_asked(server) == [("HEAD", "1")] + ([] if announces else [("GET", "1")])


def test_index_costs_one_more(server, cache, mnt):
    child = image(server.images, "child")
    name(server.images, index(server.images, [entry(child)]))
    assert which(server, cache, mnt) == "child"
    assert manifests_asked(server) == [("GET", "1"), ("GET", child["digest"])]
    assert which(server, cache, mnt) == "child"
    assert manifests_asked(server) == [("HEAD", "1")]


def test_moved_tag_is_noticed_by_its_head(server, cache, mnt):
    assert which(server, cache, mnt) == "one"
    manifests_asked(server)
    two = image(server.images, "two")
    name(server.images, two)
    assert which(server, cache, mnt) == "two"
    assert manifests_asked(server) == [("HEAD", "1"), ("GET", two["digest"])]
    assert which(server, cache, mnt) == "two"
    assert manifests_asked(server) == [("HEAD", "1")]


def test_manifest_that_left_the_cache_is_asked_for_by_its_tag(server, cache, mnt):
    assert which(server, cache, mnt) == "one"
    manifests_asked(server)
    shutil.rmtree(cache / "images")
    assert which(server, cache, mnt) == "one"
    assert manifests_asked(server) == [("GET", "1")]


def test_nobody_there_and_nothing_known_is_an_error(server, cache, mnt):
    shutil.rmtree(cache, ignore_errors=True)
    server.shutdown()
    server.server_close()
    p = tools.sluice("mount", "--cache", cache, f"{server.host}/img:1", mnt, check=False)
    tools.one_sentence(p, 1)


def test_tag_that_is_not_there_is_an_error(own, cache, mnt):
    ref = own.ref.rsplit(":", 1)[0] + ":gone"
    p = tools.sluice("mount", "--cache", cache, ref, mnt, check=False)
    assert "'gone'" in tools.one_sentence(p, 3)


def test_manifest_with_another_digest_than_announced_is_refused(server, cache, mnt):
    server.announce = lambda data: digest_of(data + b" ")
    p = tools.sluice("mount", "--cache", cache, f"{server.host}/img:1", mnt, check=False)
    assert "digest" in tools.one_sentence(p, 5)
    assert not os.listdir(mnt)
    server.announce = digest_of
    assert which(server, cache, mnt) == "one"


@pytest.mark.parametrize("sample", ["edge-zstdchunked", "edge-nydus", "edge-gzip"])
def test_of_config_and_layers_the_config_is_told_first(sample, cache, mnt, tmp_path):
    """Both are asked for at the same time, and neither is there."""
    layout = shutil.copytree(f"{SAMPLES}/oci/{sample}", tmp_path / "o")
    with LayoutServer(layout) as server:
        data, _ = server.layout_file("1", False)
        kept = digest_of(data).split(":")[1]
        for path in (layout / "blobs" / "sha256").iterdir():
            if path.name != kept:
                path.unlink()
        p = tools.sluice("mount", "--cache", cache, f"{server.host}/img:1", mnt, check=False)
    assert p.returncode == 3, p.stderr
    # sources warn of what they do not find
    assert json.loads(data)["config"]["digest"] in p.stderr.splitlines()[-1]

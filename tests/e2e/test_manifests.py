"""Manifests as registries have them: Docker's, indexes within indexes, twins,
attestations, foreign layers."""
import base64
import gzip
import io
import json
import os
import sys
import tarfile

import pytest

import tools
from conftest import ROOT
from test_tar import evict, zstd

sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from layoutserver import LayoutServer  # noqa: E402
from ocilayout import CONFIG, LAYER, MANIFEST, Layout  # noqa: E402

INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER = "application/vnd.docker."
LIST = DOCKER + "distribution.manifest.list.v2+json"
SCHEMA2 = DOCKER + "distribution.manifest.v2+json"
DOCKER_CONFIG = DOCKER + "container.image.v1+json"
DOCKER_LAYER = DOCKER + "image.rootfs.diff.tar.gzip"
FOREIGN = DOCKER + "image.rootfs.foreign.diff.tar.gzip"
ATTESTED = {"vnd.docker.reference.type": "attestation-manifest"}
TWIN = {"io.github.containers.compression.zstd": "true"}


def tar_with(name, data):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        m = tarfile.TarInfo(name)
        m.size = len(data)
        t.addfile(m, io.BytesIO(data))
    return out.getvalue()


def store(layout, obj):
    digest, size = layout.add_bytes(json.dumps(obj).encode())
    return {"mediaType": obj["mediaType"], "digest": digest, "size": size}


def image(layout, says, docker=True, pack=gzip.compress, layer_type=None):
    """A manifest whose only file, /which, says what it is; its descriptor."""
    digest, size = layout.add_bytes(pack(tar_with("which", says.encode())))
    kind = layer_type or (DOCKER_LAYER if docker else LAYER + "+gzip")
    config = layout.add_bytes(json.dumps({
        "architecture": "amd64", "os": "linux", "says": says}).encode())
    return store(layout, {
        "schemaVersion": 2, "mediaType": SCHEMA2 if docker else MANIFEST,
        "config": {"mediaType": DOCKER_CONFIG if docker else CONFIG,
                   "digest": config[0], "size": config[1]},
        "layers": [{"mediaType": kind, "digest": digest, "size": size}]})


def entry(desc, arch="amd64", annotations=None):
    e = dict(desc, platform={"os": "linux", "architecture": arch})
    if annotations:
        e["annotations"] = annotations
    return e


def index(layout, entries, media_type=INDEX):
    return store(layout, {"schemaVersion": 2, "mediaType": media_type, "manifests": entries})


def name(layout, desc):
    """The tag 1 is that."""
    layout.manifests = [dict(desc, annotations={"org.opencontainers.image.ref.name": "1"})]
    layout.write_index()


def which(server, cache, mnt, *args):
    tools.mount(cache, f"{server.host}/img:1", mnt, "-q", "--platform", "linux/amd64", *args)
    text = (mnt / "which").read_text()
    tools.umount(mnt)
    return text


CASES = {
    "schema-2": lambda o: image(o, "plain"),
    "list": lambda o: index(o, [entry(image(o, "arm"), "arm64"), entry(image(o, "plain"))], LIST),
    "attested": lambda o: index(o, [entry(image(o, "attest", False), annotations=ATTESTED),
                                    entry(image(o, "plain", False))]),
    "attested-unknown": lambda o: index(o, [
        entry(image(o, "plain", False)),
        dict(image(o, "attest", False), annotations=ATTESTED,
             platform={"os": "unknown", "architecture": "unknown"})]),
    "nested": lambda o: index(o, [index(o, [
        index(o, [entry(image(o, "arm"), "arm64"), entry(image(o, "plain"))], LIST)])]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_right_manifest_is_found(case, cache, mnt, tmp_path):
    layout = Layout(str(tmp_path / "o"))
    name(layout, CASES[case](layout))
    with LayoutServer(layout.path) as server:
        assert which(server, cache, mnt) == "plain"
    # the same from the disk
    tools.mount(cache, f"oci:{layout.path}:1", mnt, "-q", "--platform", "linux/amd64")
    assert (mnt / "which").read_text() == "plain"
    tools.umount(mnt)


def test_platform_is_chosen_through_two_indexes(cache, mnt, tmp_path):
    layout = Layout(str(tmp_path / "o"))
    name(layout, CASES["nested"](layout))
    with LayoutServer(layout.path) as server:
        assert which(server, cache, mnt, "--platform", "linux/arm64") == "arm"
        p = tools.sluice("mount", "--cache", cache, "--platform", "linux/s390x",
                         f"{server.host}/img:1", mnt, check=False)
        assert "arm64" in tools.one_sentence(p, 3)


@pytest.mark.parametrize("first", [True, False])
def test_zstd_twin_is_preferred(first, cache, mnt, tmp_path):
    layout = Layout(str(tmp_path / "o"))
    plain = entry(image(layout, "plain", False))
    twin = entry(image(layout, "twin", False, zstd, LAYER + "+zstd"), annotations=TWIN)
    name(layout, index(layout, [twin, plain] if first else [plain, twin]))
    with LayoutServer(layout.path) as server:
        assert which(server, cache, mnt) == "twin"


@pytest.mark.parametrize("place", ["registry", "elsewhere", "disk"])
def test_foreign_layer_comes_from_wherever_it_is(place, cache, mnt, tmp_path):
    """From the registry if that has it, else from its URL, without credentials."""
    layout, other = Layout(str(tmp_path / "o")), Layout(str(tmp_path / "other"))
    blob = gzip.compress(tar_with("which", b"foreign"))
    digest, size = other.add_bytes(blob)
    if place == "registry":
        layout.add_bytes(blob)
    config = layout.add_bytes(b'{"architecture": "amd64", "os": "linux"}')
    with LayoutServer(layout.path) as server, LayoutServer(other.path) as elsewhere:
        path = f"/v2/far/blobs/{digest}"
        name(layout, store(layout, {
            "schemaVersion": 2, "mediaType": SCHEMA2,
            "config": {"mediaType": DOCKER_CONFIG, "digest": config[0], "size": config[1]},
            "layers": [{"mediaType": FOREIGN, "digest": digest, "size": size,
                        "urls": [f"http://{elsewhere.host}{path}"]}]}))
        auth = tmp_path / "auth.json"
        secret = base64.b64encode(b"user:secret").decode()
        auth.write_text(json.dumps({"auths": {
            h: {"auth": secret} for h in (server.host, elsewhere.host)}}))
        ref = f"oci:{layout.path}:1" if place == "disk" else f"{server.host}/img:1"
        for _ in range(2):
            tools.mount(cache, ref, mnt, "-q", "--authfile", auth)
            assert (mnt / "which").read_text() == "foreign"
            tools.umount(mnt)
            evict(cache)
        asked = [a for a in elsewhere.asked if a[0] == path]
        assert (len(asked) > 1) == (place != "registry")
        assert all(credentials is None for _, credentials in elsewhere.asked)

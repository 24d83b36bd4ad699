"""A layer whose server has fallen silent, while others go on."""
import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import urllib.request

import pytest

import tools
from conftest import ROOT

sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from ocilayout import MANIFEST, Layout, trim  # noqa: E402

FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
# More readers and bytes than the kernel and a daemon keep on their way.
FILES = {"silent": (120, 512 << 10), "healthy": (40, 256 << 10)}


def content(name, i):
    return random.Random(f"{name}{i}").randbytes(FILES[name][1])


def layer(path, name):
    """A tar of files below a directory, that cannot be packed."""
    with tarfile.open(path, "w") as tar:
        for i in range(FILES[name][0]):
            m = tarfile.TarInfo(f"{name}/{i:03}")
            m.size = FILES[name][1]
            tar.addfile(m, io.BytesIO(content(name, i)))
    trim(path)
    return path


def api(method, host, path, body=None, kind=None):
    r = urllib.request.Request(f"http://{host}/v2/{path}", data=body, method=method)
    r.add_header("Accept", MANIFEST)
    if kind:
        r.add_header("Content-Type", kind)
    return urllib.request.urlopen(r, timeout=30)


@pytest.fixture(name="halves", scope="module")
def both_halves(tmp_path_factory):
    """An image of two layers, the second from a server of its own: the
    reference, and that server."""
    folder = tmp_path_factory.mktemp("halves")
    Layout(folder / "oci").add_image(
        "1", [layer(folder / f"{n}.tar", n) for n in ("healthy", "silent")])
    with tools.Registry(folder / "registry", more="validation: {disabled: true}\n") as near, \
            tools.Nginx(folder / "far", folder / "blobs") as far:
        tools.push_chunked(folder / "oci", f"{near.host}/both:1")
        manifest = json.load(api("GET", near.host, "both/manifests/1"))
        foreign = manifest["layers"][1]
        with api("GET", near.host, f"both/blobs/{foreign['digest']}") as f:
            blob = f.read()
        assert "sha256:" + hashlib.sha256(blob).hexdigest() == foreign["digest"]
        os.mkdir(folder / "blobs")
        (folder / "blobs" / "silent").write_bytes(blob)
        shutil.rmtree(f"{near.folder}/data/docker/registry/v2/repositories/both/_layers/"
                      + foreign["digest"].replace(":", "/"))
        foreign |= {"mediaType": FOREIGN, "urls": [f"http://{far.host}/silent"]}
        api("PUT", near.host, "both/manifests/1", json.dumps(manifest).encode(), MANIFEST)
        yield f"{near.host}/both:1", far


@contextlib.contextmanager
def readers(mnt, name):
    """A process for each file, that says whether it is what it should be. None
    is left, however this ends."""
    program = "import sys,hashlib;print(hashlib.sha256(open(sys.argv[1],'rb').read()).hexdigest())"
    processes = {}
    try:
        for i in range(FILES[name][0]):
            processes[i] = subprocess.Popen(
                [sys.executable, "-c", program, f"{mnt}/{name}/{i:03}"],
                stdout=subprocess.PIPE, text=True)
        yield processes
    finally:
        for p in processes.values():
            p.kill()
        for p in processes.values():
            p.wait(timeout=60)
            p.stdout.close()


def finish(name, processes):
    for i, p in processes.items():
        out, _ = p.communicate(timeout=60)
        assert out.strip() == hashlib.sha256(content(name, i)).hexdigest(), (name, i)


@pytest.fixture(name="driver", params=["fuse", "erofs"])
def a_driver(request):
    if request.param == "erofs" and not tools.has_erofs():
        pytest.skip("this kernel's EROFS mounts no files")
    tools.DRIVER = request.param
    yield request.param
    tools.DRIVER = "fuse"


@pytest.mark.usefixtures("driver", "transport")
def test_a_silent_server_holds_up_nobody_elses_files(halves, cache, mnt):
    """As many readers as one server can block must not keep the others from
    what comes from elsewhere; and all get their bytes when it speaks again."""
    ref, far = halves
    tools.mount(cache, ref, mnt, "--offline", "block")
    far.process.send_signal(signal.SIGSTOP)
    try:
        with readers(mnt, "silent") as blocked:
            tools.wait_for(lambda: tools.status(mnt)["read_misses"] >= 64, "nobody asks")
            with readers(mnt, "healthy") as others:
                finish("healthy", others)
            assert all(p.poll() is None for p in blocked.values())
            far.process.send_signal(signal.SIGCONT)
            finish("silent", blocked)
    finally:
        far.process.send_signal(signal.SIGCONT)
    tools.umount(mnt)


def own_image(folder, name):
    """A registry of its own with an image of one layer; and the reference."""
    Layout(folder / f"{name}-oci").add_image("1", [layer(folder / f"{name}.tar", name)])
    server = tools.Registry(folder / name)
    server.start()
    tools.push_chunked(folder / f"{name}-oci", f"{server.host}/one:1")
    return server, f"{server.host}/one:1"


@pytest.fixture(name="images", scope="module")
def two_images(tmp_path_factory):
    """Two images on two registries; the first one's is to fall silent."""
    folder = tmp_path_factory.mktemp("images")
    silent, silent_ref = own_image(folder, "silent")
    healthy, healthy_ref = own_image(folder, "healthy")
    yield silent, silent_ref, healthy_ref
    silent.stop()
    healthy.stop()


@pytest.mark.usefixtures("driver")
def test_a_silent_registry_holds_up_no_other_mount_of_the_cache(images, cache, tmp_path):
    """Two images in one cache: what waits for a silent registry keeps the other
    one from nothing, be it mounted before or afterwards, nor the cache's own
    commands; and all get their bytes when it speaks again."""
    silent, silent_ref, healthy_ref = images
    a, b, c = (tmp_path / n for n in "abc")
    for m in (a, b, c):
        m.mkdir()
    tools.mount(cache, silent_ref, a, "--offline", "block")
    tools.mount(cache, healthy_ref, b, "--offline", "block")
    silent.process.send_signal(signal.SIGSTOP)
    try:
        with readers(a, "silent") as blocked:
            tools.wait_for(lambda: tools.status(a)["read_misses"] >= 64, "nobody asks")
            with readers(b, "healthy") as others:
                finish("healthy", others)
            tools.umount(b)
            tools.mount(cache, healthy_ref, c, "--offline", "block")
            with readers(c, "healthy") as others:
                finish("healthy", others)
            tools.sluice("cache", "ls", "--cache", cache)
            assert all(p.poll() is None for p in blocked.values())
            silent.process.send_signal(signal.SIGCONT)
            finish("silent", blocked)
    finally:
        silent.process.send_signal(signal.SIGCONT)
    tools.umount(c)
    tools.umount(a)

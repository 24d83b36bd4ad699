"""Fixtures of the end-to-end tests: a registry, a web server, the program."""
import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile

import pytest

import tools
import trees

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
SAMPLES = os.path.join(ROOT, "tests", "samples")
WAYS = ["uring", "threads", "ring", "erofs"]
TRANSPORTS = ["dev", "ring"]
# Its samples are not part of this tree.
collect_ignore = [] if os.environ.get("SLUICE_UPSTREAM_SAMPLES") else ["test_upstream.py"]


def pytest_configure(config):
    config.addinivalue_line("markers", "parallel: many readers at once; also run under TSan")
    assert os.geteuid() == 0, "the end-to-end tests mount: run them as root"
    # A shell's background jobs ignore it, and every program would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def ring():
    """FUSE over io_uring, where this kernel has it."""
    if not tools.has_uring() or not os.access(tools.URING_SETTING, os.W_OK):
        pytest.skip("no FUSE over io_uring in this build or in this kernel")
    with tools.fuse_over_uring():
        yield


@pytest.fixture(params=TRANSPORTS)
def transport(request):
    """/dev/fuse, then FUSE over io_uring."""
    if request.param == "dev":
        yield "dev"
        return
    with ring():
        yield "uring"


@pytest.fixture(params=WAYS)
def engine(request):
    """Each engine in turn, uring where it is built in and allowed, under FUSE;
    then FUSE over io_uring, and the kernel's EROFS, where it can mount files."""
    if request.param == "ring":
        with ring():
            yield "uring"
        return
    if request.param == "erofs":
        if not tools.has_erofs():
            pytest.skip("this kernel's EROFS mounts no files")
        tools.DRIVER = "erofs"
        yield "uring" if tools.has_uring() else "threads"
        tools.DRIVER = "fuse"
        return
    if request.param == "uring" and not tools.has_uring():
        pytest.skip("no io_uring in this build or on this machine")
    yield request.param


@pytest.fixture(params=["fuse", "ring", "erofs"])
def driver(request):
    """Each way to show the tree, FUSE over both transports; for what does not
    depend on the engine."""
    if request.param == "ring":
        with ring():
            yield "fuse"
        return
    if request.param == "erofs" and not tools.has_erofs():
        pytest.skip("this kernel's EROFS mounts no files")
    tools.DRIVER = request.param
    yield request.param
    tools.DRIVER = "fuse"


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """A docker-registry without authentication; .host is host:port."""
    with tools.Registry(tmp_path_factory.mktemp("registry")) as r:
        yield r


@pytest.fixture(scope="session")
def samples(registry):
    """The sample images, pushed byte by byte; gives name -> reference."""
    refs = {}
    # Its tar.gz layers are not in its manifest, but in its repository.
    tools.skopeo_copy(f"oci:{SAMPLES}/oci/edge-gzip",
                      f"docker://{registry.host}/edge/edge-nydus-zran:gzip")
    for name in os.listdir(os.path.join(SAMPLES, "oci")):
        image = name.removesuffix("-esgztoc")
        refs[name] = f"{registry.host}/edge/{image}:1{name[len(image):]}"
        tools.skopeo_copy(f"oci:{SAMPLES}/oci/{name}", f"docker://{refs[name]}")
    return refs


@pytest.fixture(name="own")
def own_registry(samples, tmp_path):
    """A registry that a test may stop; .ref is the edge image in it."""
    with tools.Registry(tmp_path / "own") as r:
        r.ref = f"{r.host}/x/y:1"
        tools.skopeo_copy(f"docker://{samples['edge-zstdchunked']}", f"docker://{r.ref}")
        yield r
    shutil.rmtree(r.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def busybox_image(registry, edge_busybox, tmp_path_factory):
    """A root that container engines accept: busybox and empty directories, as
    one zstd:chunked layer made by skopeo."""
    from ocilayout import Layout, trim
    folder = tmp_path_factory.mktemp("busybox")
    with tarfile.open(folder / "layer.tar", "w") as tar:
        for name in ("bin", "dev", "etc", "proc", "run", "sys", "tmp"):
            m = tarfile.TarInfo(name)
            m.type, m.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(m)
        m = tarfile.TarInfo("bin/busybox")
        m.size, m.mode = len(edge_busybox), 0o755
        tar.addfile(m, io.BytesIO(edge_busybox))
    trim(folder / "layer.tar")
    Layout(folder / "oci").add_image("1", [folder / "layer.tar"])
    ref = f"{registry.host}/busybox:1"
    tools.push_chunked(folder / "oci", ref)
    return ref


@pytest.fixture(scope="session")
def edge_busybox(tmp_path_factory):
    """The program that the edge images carry."""
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["umoci", "unpack", "--image",
                    tools.layout_ref(f"{SAMPLES}/oci/edge-gzip"), str(folder / "b")],
                   check=True, capture_output=True)
    data = (folder / "b" / "rootfs" / "bin" / "busybox").read_bytes()
    shutil.rmtree(folder)
    return data


@pytest.fixture(scope="session")
def edge_truth(tmp_path_factory):
    """The tree that umoci unpacks from the gzip sample."""
    bundle = tmp_path_factory.mktemp("umoci") / "bundle"
    subprocess.run(["umoci", "unpack", "--image",
                    tools.layout_ref(f"{SAMPLES}/oci/edge-gzip"), str(bundle)],
                   check=True, capture_output=True)
    tree = trees.scan(bundle / "rootfs")
    shutil.rmtree(bundle)
    return tree


@pytest.fixture(scope="session")
def rafs_truth(tmp_path_factory):
    """The trees that the RAFS bundles were made from."""
    base = tmp_path_factory.mktemp("rafs")
    subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "-S", "-xpf",
                    f"{SAMPLES}/rafs/tree.tar.zst", "-C", str(base)], check=True)
    return trees.scan(base)


@pytest.fixture
def cache(tmp_path):
    """A cache directory of its own."""
    path = tmp_path / "cache"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def mnt(tmp_path):
    """A mount point; whatever is mounted there goes at the end."""
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    while subprocess.run(["umount", "-l", str(path)], capture_output=True,
                         check=False).returncode == 0:
        pass

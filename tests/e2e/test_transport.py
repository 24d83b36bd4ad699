"""How requests get from the kernel to the program, and what is said of it."""
import contextlib
import fcntl
import os
import signal

import pytest

import tools
import trees


@contextlib.contextmanager
def switched_off():
    """The kernel's setting for FUSE over io_uring is off meanwhile."""
    with open(tools.URING_SETTING, "r+", encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        before = os.pread(f.fileno(), 1, 0)
        os.pwrite(f.fileno(), b"N", 0)
        try:
            yield
        finally:
            os.pwrite(f.fileno(), before, 0)


def test_uring_switched_off_is_named(samples, cache, mnt):
    if not os.access(tools.URING_SETTING, os.W_OK):
        pytest.skip("this kernel has no FUSE over io_uring")
    image = samples["edge-zstdchunked"]
    with switched_off():
        p = tools.sluice("mount", "--cache", cache, "--driver", "fuse", "--transport", "uring",
                         image, mnt, check=False)
        assert tools.URING_SETTING in tools.one_sentence(p, 6)
        assert not os.path.ismount(mnt)
        tools.mount(cache, image, mnt)
        status = tools.status(mnt)
    assert status["transport"] == "dev"
    assert tools.URING_SETTING in status["transport_reason"]
    tools.umount(mnt)


def test_uring_needs_the_engine(samples, cache, mnt):
    args = ["mount", "--cache", cache, "--transport", "uring", "--io-backend", "threads",
            samples["edge-zstdchunked"], mnt]
    tools.one_sentence(tools.sluice(*args, check=False), 2)


def test_dev_is_taken_where_it_was_asked_for(samples, transport, cache, mnt):
    """Also where the other one could be had."""
    tools.mount(cache, samples["edge-zstdchunked"], mnt, "--transport", "dev")
    status = tools.status(mnt)
    assert status["transport"] == "dev" and status["transport_reason"] == "as asked for"
    tools.umount(mnt)
    tools.mount(cache, samples["edge-zstdchunked"], mnt, "--transport", transport)
    status = tools.status(mnt)
    assert status["transport"] == transport and status["transport_reason"] == "as asked for"
    assert status["io_backend"] == "uring" or transport == "dev"
    tools.umount(mnt)


def test_users_of_an_ended_daemon_get_errors(samples, transport, cache, mnt):
    """A busy mount is detached; who still has it must not wait for ever."""
    tools.mount(cache, samples["edge-zstdchunked"], mnt)
    assert tools.status(mnt)["transport"] == transport
    pid = tools.pid_of(mnt)
    fd = os.open(mnt / "edge" / "text8m", os.O_RDONLY)
    folder = os.open(mnt, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.kill(pid, signal.SIGTERM)
        tools.wait_for(lambda: tools.state(pid) in ("", "Z"), "the daemon hangs")
        with pytest.raises(OSError):
            os.pread(fd, 4096, 4 << 20)
        with pytest.raises(OSError):
            os.stat("no-such-name", dir_fd=folder)
    finally:
        for n in fd, folder:
            with contextlib.suppress(OSError):  # it asks the daemon, too
                os.close(n)


def test_devices_of_erofs_are_read_over_it(samples, edge_truth, transport, cache, mnt):
    if not tools.has_erofs():
        pytest.skip("this kernel's EROFS mounts no files")
    tools.mount(cache, samples["edge-zstdchunked"], mnt, "--driver", "erofs",
                "--transport", transport)
    assert tools.status(mnt)["transport"] == transport
    assert trees.digest(os.fsencode(mnt / "edge" / "text8m")) == \
        edge_truth[b"edge/text8m"]["sha256"]
    tools.umount(mnt)

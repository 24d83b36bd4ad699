"""Mounting and unmounting as people and machines do it."""
import errno
import os
import signal
import subprocess
import threading
import time

import pytest

import tools


@pytest.fixture
def mounted(samples, cache, mnt, driver):
    tools.mount(cache, samples["edge-zstdchunked"], mnt)
    return mnt


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_unmounts_cleanly(sig, mounted):
    pid = tools.pid_of(mounted)
    os.kill(pid, sig)
    tools.wait_for(lambda: not os.path.ismount(mounted), "still mounted")
    tools.wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "still running")


def test_foreground_ends_with_ctrl_c(samples, cache, mnt):
    p = subprocess.Popen([tools.BIN, "mount", "-f", "--cache", cache,
                          samples["edge-zstdchunked"], mnt],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    tools.wait_for(lambda: os.path.ismount(mnt), "not mounted")
    assert os.listdir(mnt)
    p.send_signal(signal.SIGINT)
    out, _ = p.communicate(timeout=30)
    assert p.returncode == 0 and out == ""
    assert not os.path.ismount(mnt)


def test_stale_mount_is_replaced(samples, cache, mounted, driver):
    tools.kill(tools.pid_of(mounted))
    with pytest.raises(OSError) as e:
        # EROFS shows the tree all the same.
        os.listdir(mounted)
        (mounted / "edge" / "text8m").read_bytes()
    assert driver == "fuse" or e.value.errno == errno.EIO
    tools.mount(cache, samples["edge-zstdchunked"], mounted)
    assert os.listdir(mounted)
    with open("/proc/self/mounts", encoding="utf-8") as f:
        assert sum(str(mounted) in line for line in f) == 1
    tools.umount(mounted)


def test_busy_umount_says_so_and_lazy_detaches(mounted):
    fd = os.open(next(os.path.join(d, f) for d, _, fs in os.walk(mounted) for f in fs
                      if os.path.isfile(os.path.join(d, f))), os.O_RDONLY)
    try:
        p = tools.sluice("umount", mounted, check=False)
        tools.one_sentence(p, 1)
        assert os.path.ismount(mounted)
        tools.sluice("umount", "-l", mounted)
        assert not os.path.ismount(mounted)
    finally:
        os.close(fd)


def test_umount_refuses_what_is_not_ours(tmp_path):
    tools.one_sentence(tools.sluice("umount", tmp_path, check=False), 1)
    tools.one_sentence(tools.sluice("umount", "/proc", check=False), 1)


def test_plain_umount_ends_the_daemon(mounted):
    pid = tools.pid_of(mounted)
    subprocess.run(["umount", mounted], check=True)
    tools.wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the daemon stays")


def test_daemon_leaves_no_descriptor_open(samples, cache, mnt):
    r, w = os.pipe()
    p = subprocess.Popen([tools.BIN, "mount", "--cache", cache, samples["edge-zstdchunked"], mnt],
                         stdout=w, stderr=w, pass_fds=(w,))
    os.close(w)
    assert p.wait(tools.TIMEOUT) == 0
    ended = threading.Event()
    threading.Thread(target=lambda: (os.read(r, 1 << 16), ended.set()), daemon=True).start()
    assert ended.wait(10), "the daemon holds its parent's output open"
    fds = {os.readlink(f"/proc/{tools.pid_of(mnt)}/fd/{n}") for n in ("0", "1", "2")}
    assert fds == {"/dev/null"}
    tools.umount(mnt)


@pytest.fixture
def mount_helper():
    """/sbin/mount.sluice for the time of one test."""
    path = "/sbin/mount.sluice"
    assert not os.path.lexists(path)
    os.symlink(os.path.abspath(tools.BIN), path)
    yield
    os.unlink(path)


def test_mount_t_sluice_and_fstab(samples, cache, mnt, mount_helper, tmp_path):
    ref = samples["edge-zstdchunked"]
    subprocess.run(["mount", "-t", "sluice", "-o", f"rw,cache={cache},nofail,_netdev,x-foo=1",
                    ref, mnt], check=True, capture_output=True)
    assert os.listdir(mnt)
    assert tools.status(mnt)["image"].endswith(ref)
    subprocess.run(["umount", mnt], check=True)
    fstab = tmp_path / "fstab"
    fstab.write_text(f"{ref} {mnt} sluice ro,cache={cache},workers=2,prefetch=none 0 0\n")
    subprocess.run(["mount", "-T", fstab, mnt], check=True)
    with pytest.raises(OSError) as e:
        open(mnt / "new", "w", encoding="ascii")
    assert e.value.errno == 30
    subprocess.run(["umount", mnt], check=True)
    # A failure is mount(8)'s 32; a dry run mounts nothing.
    p = subprocess.run(["mount.sluice", "127.0.0.1:1/no/such:1", mnt, "-o", f"cache={cache}"],
                       capture_output=True, check=False)
    assert p.returncode == 32
    p = subprocess.run(["mount.sluice", ref, mnt, "-f", "-o", "ro"], capture_output=True, check=False)
    assert p.returncode == 0 and not os.path.ismount(mnt)


def test_mount_flags(mounted, driver):
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        line = next(x for x in f if f" {mounted} " in x)
    options = line.split()[5].split(",")
    assert {"ro", "nosuid", "nodev"} <= set(options)
    if driver == "erofs":
        assert " - erofs /" in line
    else:
        assert "fuse.sluice" in line
        assert "default_permissions" in line and "allow_other" in line


def test_writes_are_refused_as_read_only(mounted):
    name = next(n for n in os.listdir(mounted))
    for attempt in (lambda: os.mkdir(mounted / "x"), lambda: os.unlink(mounted / name),
                    lambda: os.chmod(mounted / name, 0o777),
                    lambda: os.setxattr(mounted / name, "user.x", b"y"),
                    lambda: os.symlink("a", mounted / "b")):
        with pytest.raises(OSError) as e:
            attempt()
        assert e.value.errno == 30


def test_signal_while_reads_wait_gives_eio(own, cache, mnt, driver):
    tools.mount(cache, own.ref, mnt)
    os.kill(own.process.pid, signal.SIGSTOP)
    try:
        path = mnt / "edge" / "text8m"
        reader = subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE)
        time.sleep(1)
        assert reader.poll() is None
        pid = tools.pid_of(mnt)
        os.kill(pid, signal.SIGTERM)
        assert reader.wait(20) != 0
        tools.wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the daemon hangs")
        assert not os.path.ismount(mnt)
    finally:
        os.kill(own.process.pid, signal.SIGCONT)


def test_blocked_reader_can_be_killed(own, cache, mnt, driver):
    tools.mount(cache, own.ref, mnt)
    path = mnt / "edge" / "text8m"
    assert path.stat().st_size > 1 << 20
    own.stop()
    reader = subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL)
    time.sleep(1)
    assert reader.poll() is None, "a read without a server must wait"
    # Not SIGINT: a background job of a shell is born with that ignored.
    reader.send_signal(signal.SIGTERM)
    assert reader.wait(10) != 0
    own.start()
    assert subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=False,
                          timeout=60).returncode == 0
    tools.umount(mnt)

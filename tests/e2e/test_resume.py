"""A first mount that reads a layer whole, broken in the middle: what was fetched
stays for the next try. And what a person sees of it."""
import glob
import gzip
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

import tools
from conftest import ROOT
from test_tar import LAYER, noisy_tar, packed_image, read_all, zstd

sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from layoutserver import LayoutServer  # noqa: E402

MIB = 1 << 20
# Fetched and not yet kept at any moment: four ranges of at most 4 MiB.
ON_ITS_WAY = 16 * MIB
# The config, and what connections of before took with them.
SLACK = MIB

PACK = {
    "gzip": ("+gzip", lambda tar: gzip.compress(tar, 1)),
    "zstd": ("+zstd", lambda tar: zstd(tar, "-1")),
    "tar": ("", lambda tar: tar),
}


class Image:
    """One layer of about 30 MiB, in a registry that counts."""

    def __init__(self, path, kind="gzip", files=50):
        tar, self.contents = noisy_tar(files)
        media, pack = PACK[kind]
        self.blob = pack(tar)
        self.size = len(self.blob)
        self.layout = packed_image(path, tar, self.blob, media)
        assert LAYER


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return Image(tmp_path_factory.mktemp("resume") / "image")


@pytest.fixture
def server(image):
    with LayoutServer(image.layout) as s:
        yield s


def ref(server):
    return f"{server.host}/img:1"


def begin(cache, server, mnt, *args):
    return subprocess.Popen([tools.BIN, "mount", "--cache", str(cache), *args, ref(server),
                             str(mnt)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(pid):
    """The processes that pid has started, and theirs."""
    found, new = [], [pid]
    while new:
        p = new.pop()
        for path in glob.glob(f"/proc/{p}/task/*/children"):
            try:
                with open(path, encoding="ascii") as f:
                    new += (kids := [int(x) for x in f.read().split()])
                    found += kids
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


def gone(pids):
    return all(tools.state(p) in ("", "Z") for p in pids)


def parts(cache):
    return glob.glob(f"{cache}/tmp/part-*")


def break_off(cache, server, mnt, sig, *args, everything=False, known=0):
    """A mount, ended by sig when the server has sent what it will."""
    p = begin(cache, server, mnt, *args)
    server.wait_until_silent()
    # what was sent has been kept, but for the ranges on their way
    tools.wait_for(lambda: parts(cache) and
                   os.path.getsize(parts(cache)[0]) > max(known, server.limit - ON_ITS_WAY),
                   "not kept")
    pids = children(p.pid)
    if everything:
        for pid in pids:
            os.kill(pid, sig)
    p.send_signal(sig)
    _, err = p.communicate(timeout=30)
    tools.wait_for(lambda: gone(pids), "something is still running")
    assert not os.path.ismount(mnt)
    return p, err


def mount_rest(cache, server, mnt, image, *args):
    """The next try; gives the bytes of blobs that it took."""
    server.set_limit(None)
    tools.mount(cache, ref(server), mnt, *args)
    sent = server.sent
    read_all(mnt, image.contents)
    s = tools.status(mnt)
    assert not s["read_errors"] and s["complete"] is True
    assert glob.glob(f"{cache}/tmp/*") == []
    tools.umount(mnt)
    return sent


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_next_try_goes_on_where_it_was_ended(how, engine, image, server, cache, mnt):
    sig = getattr(signal, how)
    server.set_limit(image.size - 4 * MIB)
    p, _ = break_off(cache, server, mnt, sig, "-q", "--io-backend", engine,
                     everything=sig == signal.SIGKILL)
    assert p.returncode == -sig
    kept = os.path.getsize(parts(cache)[0])
    with open(parts(cache)[0], "rb") as f:
        assert f.read() == image.blob[:kept]
    again = mount_rest(cache, server, mnt, image, "-q", "--io-backend", engine)
    assert again <= image.size - kept + SLACK and kept >= image.size - 4 * MIB - ON_ITS_WAY


@pytest.mark.parametrize("kind", ["zstd", "tar"])
def test_other_packings_go_on_too(kind, cache, mnt, tmp_path):
    image = Image(tmp_path / "image", kind)
    with LayoutServer(image.layout) as server:
        server.set_limit(image.size - 2 * MIB)
        break_off(cache, server, mnt, signal.SIGINT, "-q")
        kept = os.path.getsize(parts(cache)[0])
        assert 0 < mount_rest(cache, server, mnt, image, "-q") <= image.size - kept + SLACK


def test_several_tries_each_get_further(image, server, cache, mnt):
    kept = 0
    for _ in range(2):
        server.set_limit(9 * MIB)
        break_off(cache, server, mnt, signal.SIGINT, "-q", known=kept)
        kept = os.path.getsize(parts(cache)[0])
    mount_rest(cache, server, mnt, image)


def test_in_front_too(image, server, cache, mnt):
    server.set_limit(image.size - 4 * MIB)
    p, _ = break_off(cache, server, mnt, signal.SIGINT, "-f", "-q")
    assert p.returncode == -signal.SIGINT
    assert mount_rest(cache, server, mnt, image, "-q") < ON_ITS_WAY + 5 * MIB


@pytest.mark.parametrize("where", ["first", "middle", "last", "zeros", "long"])
def test_spoiled_beginning_costs_a_new_start(where, image, server, cache, mnt):
    server.set_limit(image.size - 4 * MIB)
    break_off(cache, server, mnt, signal.SIGINT, "-q")
    part = parts(cache)[0]
    size = os.path.getsize(part)
    with open(part, "r+b") as f:
        if where == "zeros":
            f.truncate(size // 2)
            f.truncate(size)
        elif where == "long":
            f.truncate(image.size + 1)
        else:
            at = {"first": 0, "middle": size // 2, "last": size - 1}[where]
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ 1]))
    assert image.size <= mount_rest(cache, server, mnt, image) <= 2 * image.size


def test_plain_line_says_what_is_here(image, server, cache, mnt):
    server.set_limit(image.size - 4 * MIB)
    _, err = break_off(cache, server, mnt, signal.SIGINT)
    assert err.count("\n") == 1 and "reading layer 'sha256:" in err and "here" not in err
    server.set_limit(None)
    p = tools.mount(cache, ref(server), mnt)
    assert re.fullmatch(r"sluice: reading layer 'sha256:[0-9a-f]{12}' whole: [0-9.]+ MiB, "
                        r"[0-9.]+ MiB of it are here\n", p.stderr)
    tools.umount(mnt)


def test_old_beginnings_are_swept_young_ones_stay(image, server, cache, mnt):
    server.set_limit(image.size - 4 * MIB)
    break_off(cache, server, mnt, signal.SIGINT, "-q")
    part = parts(cache)[0]
    other = os.path.join(os.path.dirname(part), "part-sha256-" + 64 * "0")
    for path, days in ((other, 6), (part, 8)):
        with open(path, "ab"):
            pass
        os.utime(path, (time.time() - days * 86400,) * 2)
    server.set_limit(None)
    tools.mount(cache, ref(server), mnt, "-q")
    assert server.sent >= image.size and parts(cache) == [other]
    tools.umount(mnt)


def test_limit_of_the_cache_counts_for_what_is_kept(image, server, cache, mnt):
    server.set_limit(image.size - 4 * MIB)
    p = begin(cache, server, mnt, "-q", "--cache-size", "8M")
    server.wait_until_silent()
    assert sum(os.stat(x).st_blocks * 512 for x in glob.glob(f"{cache}/tmp/*")) <= 12 * MIB
    server.set_limit(None)
    assert p.wait(60) == 0
    p.communicate()
    read_all(mnt, image.contents)
    assert parts(cache) == []
    tools.umount(mnt)


def test_prune_takes_beginnings_too_but_not_those_being_written(image, server, cache, mnt):
    server.set_limit(image.size - 4 * MIB)
    p = begin(cache, server, mnt, "-q")
    server.wait_until_silent()
    tools.wait_for(lambda: parts(cache) and os.path.getsize(parts(cache)[0]) > 0, "not kept")
    tools.sluice("cache", "prune", "--all", "--cache", cache)
    assert len(parts(cache)) == 1
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=30)
    tools.sluice("cache", "prune", "--all", "--cache", cache)
    assert parts(cache) == []


def test_two_mounts_at_once_do_not_share_a_beginning(image, server, cache, tmp_path):
    dirs = [tmp_path / "a", tmp_path / "b"]
    for d in dirs:
        d.mkdir()
    server.set_limit(12 * MIB)
    running = [begin(cache, server, d, "-q") for d in dirs]
    server.wait_until_silent()
    server.set_limit(None)
    try:
        assert [p.wait(60) for p in running] == [0, 0]
        for d in dirs:
            read_all(d, image.contents)
        assert parts(cache) == []
    finally:
        for d in dirs:
            subprocess.run(["umount", "-l", d], capture_output=True, check=False)
        for p in running:
            p.communicate()


def test_registry_that_comes_back_is_waited_for(image, cache, mnt):
    with LayoutServer(image.layout) as first:
        first.set_limit(image.size - 10 * MIB)
        p = begin(cache, first, mnt, "-q")
        first.wait_until_silent()
    sent, port = first.sent, int(first.host.split(":")[1])
    with LayoutServer(image.layout, port) as second:
        assert p.wait(60) == 0, p.communicate()
        assert sent + second.sent <= image.size + ON_ITS_WAY + MIB
        read_all(mnt, image.contents)
        tools.umount(mnt)
    p.communicate()


def test_try_that_fails_keeps_what_it_has(image, cache, mnt):
    with LayoutServer(image.layout) as first:
        first.set_limit(image.size - 4 * MIB)
        p = begin(cache, first, mnt, "-q", "--offline", "eio")
        first.wait_until_silent()
        tools.wait_for(lambda: parts(cache) and os.path.getsize(parts(cache)[0]) > 0, "not kept")
    out, err = p.communicate(timeout=60)
    assert p.returncode == 1 and out == "" and err.count("\n") == 1
    kept = os.path.getsize(parts(cache)[0])
    with LayoutServer(image.layout, int(first.host.split(":")[1])) as second:
        assert mount_rest(cache, second, mnt, image, "-q") <= image.size - kept + SLACK


# ---- a terminal ----

class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(tools.BIN, [tools.BIN, *map(str, args)])
        self.text = ""

    def read(self, seconds=0.1):
        """What there is now; False at the end."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.text += data.decode()
        return bool(data)

    def read_until(self, pattern, seconds=30):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < end and self.read(), self.text

    def wait(self):
        while self.read():
            pass
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


LINE = r"\rreading layer 1 of 1: [0-9.]+ MiB of [0-9.]+ MiB, [0-9.]+ [KM]iB/s, [0-9]+ s left\x1b\[K"
WIPE = "\r\x1b[K"


def test_terminal_shows_a_line_that_goes(image, server, cache, mnt):
    server.set_limit(20 * MIB)
    t = Terminal("mount", "--cache", cache, ref(server), mnt)
    t.read_until(LINE)
    server.set_limit(None)
    assert t.wait() == 0
    assert t.text.endswith(WIPE) and "\n" not in t.text
    read_all(mnt, image.contents)
    tools.umount(mnt)


def test_quiet_terminal_shows_nothing(server, cache, mnt):
    t = Terminal("mount", "-q", "--cache", cache, ref(server), mnt)
    assert t.wait() == 0 and t.text == ""
    tools.umount(mnt)


@pytest.mark.parametrize("front", [[], ["-f"]])
def test_ctrl_c_on_a_terminal_leaves_nothing_but_what_was_fetched(
        front, image, server, cache, mnt):
    server.set_limit(image.size - 4 * MIB)
    t = Terminal("mount", *front, "--cache", cache, ref(server), mnt)
    t.read_until(LINE)
    server.wait_until_silent()
    pids = children(t.pid)
    assert pids
    os.write(t.fd, b"\x03")
    assert t.wait() == -signal.SIGINT
    # the daemon has ended before the command, its helper at the same time
    assert gone(pids[:0 if front else 1])
    tools.wait_for(lambda: gone(pids), "something is still running")
    assert not os.path.ismount(mnt)
    assert t.text.endswith(WIPE) and len(parts(cache)) == 1
    assert mount_rest(cache, server, mnt, image, "-q") < ON_ITS_WAY + 5 * MIB


def test_ctrl_c_ends_a_fetch_too(image, server, cache):
    server.set_limit(image.size - 4 * MIB)
    t = Terminal("fetch", "--cache", cache, ref(server))
    t.read_until(LINE)
    server.wait_until_silent()
    os.write(t.fd, b"\x03")
    assert t.wait() == -signal.SIGINT
    assert t.text.endswith(WIPE) and len(parts(cache)) == 1
    server.set_limit(None)
    tools.sluice("fetch", "-q", "--cache", cache, ref(server))
    assert server.sent < ON_ITS_WAY + 5 * MIB

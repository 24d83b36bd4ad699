"""The driver erofs: which one is taken, and the life of its mounts."""
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile

import pytest

import tools
import trees
from conftest import SAMPLES
from ocilayout import Layout

pytestmark = pytest.mark.skipif(not tools.has_erofs(), reason="EROFS mounts no files here")
BUNDLE = f"{SAMPLES}/rafs/v6-zstd/bootstrap"
PROCESS_KEYS = ["pid", "workers", "transport", "io_backend", "bytes_fetched", "requests_http",
                "reads", "read_hits", "read_misses", "read_errors", "verify_failures", "retries",
                "offline"]


def mount(cache, image, mnt, *args):
    return tools.mount(cache, image, mnt, "--driver", "erofs", *args)


def read_all(mnt):
    for folder, _, names in os.walk(os.fsencode(mnt)):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as f:
                    while f.read(1 << 20):
                        pass


def fill(cache, mnt, image=BUNDLE):
    """The whole image into the cache; gives its tree."""
    tools.mount(cache, image, mnt, "--driver", "fuse")
    read_all(mnt)
    tree = trees.scan(mnt)
    tools.wait_for(lambda: tools.status(mnt)["complete"], "the cache is not filled")
    tools.umount(mnt)
    return tree


@pytest.fixture
def complete(cache, mnt):
    """A mount that needs no process."""
    fill(cache, mnt)
    mount(cache, BUNDLE, mnt)
    return mnt


def processes(mnt):
    """Those with the mount point in their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if os.fsencode(mnt) in f.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            pass
    return found


def types_at(mnt):
    """Of the mounts there, the lowest first."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return [x.split(" - ")[1].split()[0] for x in f if x.split()[4] == str(mnt)]


def run_files():
    folder = "/run/sluice"
    return {n for n in os.listdir(folder) if n.endswith(".json")} if os.path.isdir(folder) else set()


def test_auto_takes_erofs_and_says_why(cache, mnt):
    tools.mount(cache, BUNDLE, mnt, "--driver", "auto")
    s = tools.status(mnt)
    assert s["driver"] == "erofs" and "kernel" in s["driver_reason"]
    assert types_at(mnt) == ["erofs"]
    tools.umount(mnt)


def test_where_it_does_not_work_auto_says_why_not(tmp_path, mnt):
    """No EROFS over an index on a tmpfs."""
    cache = tmp_path / "tmpfs"
    cache.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "t", cache], check=True)
    try:
        tools.mount(cache, BUNDLE, mnt, "--driver", "auto")
        s = tools.status(mnt)
        assert s["driver"] == "fuse" and "EROFS" in s["driver_reason"]
        tools.umount(mnt)
        p = tools.sluice("mount", "--driver", "erofs", "--cache", cache, BUNDLE, mnt, check=False)
        assert "EROFS" in tools.one_sentence(p, 6)
        assert types_at(mnt) == [] and not processes(mnt)
    finally:
        subprocess.run(["umount", "-l", cache], check=True)


def test_its_options_are_checked_by_name(cache, mnt):
    p = tools.sluice("mount", "--driver", "erofs", "--cache", cache, "-o", "bogus", BUNDLE, mnt,
                     check=False)
    assert "bogus" in tools.one_sentence(p, 2)
    mount(cache, BUNDLE, mnt, "-o", "suid,dev,noexec,rw,x-systemd.automount")
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        flags = next(x for x in f if x.split()[4] == str(mnt)).split()[5].split(",")
    assert {"ro", "noexec"} <= set(flags) and not {"nosuid", "nodev"} & set(flags)
    tools.umount(mnt)


def test_complete_image_leaves_no_process(complete, cache):
    s = tools.status(complete)
    assert processes(complete) == []
    assert s["driver"] == "erofs" and s["complete"] is True
    assert s["bytes_cached"] == s["bytes_total"] > 0 and s["entries"] > 300
    assert {k: s[k] for k in PROCESS_KEYS} == dict.fromkeys(PROCESS_KEYS)
    runs = json.loads(tools.sluice("status", "--json").stdout)
    assert [r["pid"] for r in runs if r["dir"] == str(complete)] == [None]
    assert str(complete) in tools.sluice("status").stdout
    assert "none is needed" in tools.sluice("status", complete).stdout
    p = tools.sluice("mount", "--cache", cache, BUNDLE, complete, check=False)
    assert "already mounted" in tools.one_sentence(p, 1)
    before = run_files()
    tools.umount(complete)
    assert len(before) - len(run_files()) == 1


def test_plain_umount_of_a_complete_image_leaves_nothing(complete):
    subprocess.run(["umount", complete], check=True)
    p = tools.sluice("status", complete, check=False)
    assert "no process" in tools.one_sentence(p, 1)
    tools.one_sentence(tools.sluice("umount", complete, check=False), 1)


def test_complete_image_shows_its_tree(cache, mnt):
    want = fill(cache, mnt)
    mount(cache, BUNDLE, mnt)
    assert trees.differences(trees.scan(mnt), want) == []
    tools.umount(mnt)


def test_in_front_a_complete_image_waits_for_its_unmount(cache, mnt):
    fill(cache, mnt)
    for end in (lambda p: tools.sluice("umount", mnt), lambda p: p.send_signal(signal.SIGINT),
                lambda p: subprocess.run(["umount", mnt], check=True)):
        p = subprocess.Popen([tools.BIN, "mount", "-f", "--driver", "erofs", "--cache", cache,
                              BUNDLE, mnt])
        tools.wait_for(lambda: os.path.ismount(mnt), "not mounted")
        tools.wait_for(lambda: tools.sluice("status", mnt, check=False).returncode == 0, "no answer")
        assert tools.status(mnt)["pid"] == p.pid
        end(p)
        assert p.wait(20) == 0
        assert types_at(mnt) == []


def test_cache_that_is_taken_away_harms_no_mount(complete, cache):
    want = trees.scan(complete)
    shutil.rmtree(cache)
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3")
    assert trees.differences(trees.scan(complete), want) == []
    tools.umount(complete)


def test_index_that_is_taken_away_harms_no_mount(cache, mnt):
    mount(cache, BUNDLE, mnt)
    shutil.rmtree(cache / "images")
    assert len(trees.scan(mnt)) > 300
    tools.umount(mnt)


def test_killed_daemon_gives_eio_and_its_mount_is_replaced(cache, mnt):
    mount(cache, BUNDLE, mnt)
    tools.kill(tools.pid_of(mnt))
    names = os.listdir(mnt)
    with pytest.raises(OSError) as e:
        read_all(mnt)
    assert names and e.value.errno == errno.EIO
    mount(cache, BUNDLE, mnt)
    read_all(mnt)
    assert types_at(mnt) == ["erofs"]
    # What is ours is known by its number, also after its process has died.
    tools.kill(tools.pid_of(mnt))
    tools.umount(mnt)
    assert types_at(mnt) == []


def test_foreign_mounts_are_never_replaced(cache, mnt, tmp_path):
    """Not over a dead one of ours, nor an EROFS of somebody else."""
    mount(cache, BUNDLE, mnt)
    tools.kill(tools.pid_of(mnt))
    subprocess.run(["mount", "-t", "tmpfs", "t", mnt], check=True)
    mount(cache, BUNDLE, mnt)
    assert types_at(mnt) == ["erofs", "tmpfs", "erofs"]
    tools.sluice("umount", mnt)
    p = tools.sluice("umount", mnt, check=False)
    assert "no mount of sluice" in tools.one_sentence(p, 1)
    subprocess.run(["umount", mnt], check=True)
    subprocess.run(["umount", mnt], check=True)
    (tmp_path / "tree").mkdir()
    subprocess.run(["mkfs.erofs", tmp_path / "other", tmp_path / "tree"], check=True,
                   capture_output=True)
    subprocess.run(["mount", "-t", "erofs", "-o", "loop", tmp_path / "other", mnt], check=True)
    mount(cache, BUNDLE, mnt)
    assert types_at(mnt) == ["erofs", "erofs"]
    tools.sluice("umount", mnt)
    tools.one_sentence(tools.sluice("umount", mnt, check=False), 1)
    subprocess.run(["umount", mnt], check=True)


def test_failed_mount_leaves_the_dead_one_known(cache, mnt):
    mount(cache, BUNDLE, mnt)
    tools.kill(tools.pid_of(mnt))
    assert tools.sluice("mount", "--cache", cache, "/no/such/bootstrap", mnt, check=False).returncode
    assert types_at(mnt) == ["erofs"]
    mount(cache, BUNDLE, mnt)
    assert types_at(mnt) == ["erofs"]
    tools.umount(mnt)


def test_daemon_keeps_no_more_rights_than_it_needs(cache, mnt):
    mount(cache, BUNDLE, mnt)
    with open(f"/proc/{tools.pid_of(mnt)}/status", encoding="ascii") as f:
        fields = dict(line.split(":", 1) for line in f)
    assert int(fields["CapEff"], 16) & ~(1 << 2) == 0
    assert fields["NoNewPrivs"].strip() == "1"
    tools.umount(mnt)


def test_another_mount_namespace_keeps_it(cache, mnt):
    mount(cache, BUNDLE, mnt)
    pid = tools.pid_of(mnt)
    other = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c",
                              f"read x; cat {mnt}/many/* >/dev/null && ls {mnt} >&2;"
                              f"{os.path.abspath(tools.BIN)} umount {mnt}"],
                             stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    tools.wait_for(lambda: os.readlink(f"/proc/{other.pid}/ns/mnt") !=
                   os.readlink("/proc/self/ns/mnt"), "no namespace")
    p = tools.sluice("umount", mnt, check=False)
    assert "namespace" in tools.one_sentence(p, 1)
    assert types_at(mnt) == [] and os.path.exists(f"/proc/{pid}")
    _, err = other.communicate(b"\n", timeout=60)
    assert other.returncode == 0 and len(err.split()) > 3
    tools.wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the daemon stays")


@pytest.mark.parametrize("end", ["sluice umount", "umount", "SIGTERM"])
def test_unmount_with_reads_that_nobody_waits_for_any_more(end, cache, mnt, tmp_path):
    """The network is gone, and the reader was killed."""
    site = tools.copy_tree(f"{SAMPLES}/rafs/v6-zstd", tmp_path / "site")
    web = tools.Nginx(tmp_path / "nginx", site)
    web.start()
    mount(cache, f"http://{web.host}/bootstrap", mnt)
    pid = tools.pid_of(mnt)
    web.stop()
    reader = subprocess.Popen(["cat", *(mnt / "many").iterdir()], stdout=subprocess.DEVNULL)
    tools.wait_for(lambda: tools.status(mnt)["offline"], "it does not notice")
    assert reader.poll() is None
    reader.kill()
    assert reader.wait(10) != 0
    if end == "SIGTERM":
        os.kill(pid, signal.SIGTERM)
    else:
        subprocess.run([*end.replace("sluice", tools.BIN).split(), mnt], check=True, timeout=30)
    tools.wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the daemon stays")
    assert types_at(mnt) == []


@pytest.fixture(scope="module")
def many_layers(tmp_path_factory):
    """200 layers with a file each, and what a long link needs."""
    folder = tmp_path_factory.mktemp("many")
    tars = []
    for i in range(200):
        path = folder / f"{i}.tar"
        with tarfile.open(path, "w") as tar:
            data = f"file {i}\n".encode() * 3000
            m = tarfile.TarInfo(f"file{i}")
            m.size = len(data)
            tar.addfile(m, io.BytesIO(data))
            m = tarfile.TarInfo(f"link{i}")
            m.type, m.linkname = tarfile.SYMTYPE, "x/" * (i * 10) + "end"
            tar.addfile(m)
        tars.append(path)
    Layout(folder / "oci").add_image("1", tars)
    return f"oci:{folder}/oci:1"


def check_many(mnt):
    for i in range(200):
        assert (mnt / f"file{i}").read_bytes() == f"file {i}\n".encode() * 3000
        assert os.readlink(mnt / f"link{i}") == "x/" * (i * 10) + "end"


def test_hundreds_of_devices_and_long_links(many_layers, cache, mnt):
    """Plain tars: 512-byte blocks, and targets of up to 3983 bytes over them."""
    mount(cache, many_layers, mnt, "-q")
    s = tools.status(mnt)
    assert len(s["blobs"]) == 200 and s["pid"] is None
    check_many(mnt)
    tools.umount(mnt)
    # The same as FUSE files: nothing is in the cache but what was learnt.
    for folder, _, names in os.walk(cache / "blobs"):
        for name in {"data", "ready"} & set(names):
            os.unlink(os.path.join(folder, name))
    mount(cache, many_layers, mnt, "-q")
    s = tools.status(mnt)
    assert len(s["blobs"]) == 200 and s["pid"] and s["complete"] is False
    check_many(mnt)
    assert tools.status(mnt)["read_errors"] == 0
    tools.umount(mnt)

"""Making room, fetching whole, pins, and reading the cache back."""
import glob
import json
import os
import random
import re
import shutil
import struct
import subprocess
import time

import pytest

import tools
import trees

MIB = 1 << 20


def data_files(cache):
    return glob.glob(f"{cache}/blobs/*/*/*/data")


def blocks_of(files):
    """The blocks that those of the files take that are still there."""
    return sum(os.stat(f).st_blocks for f in files if os.path.exists(f))


def disk_bytes(cache):
    """What the cache directory takes, as du counts."""
    out = subprocess.run(["du", "-s", "-B1", str(cache)], check=True, capture_output=True)
    return int(out.stdout.split()[0])


def run_cache(cache, *args, **kw):
    return tools.sluice("cache", "--cache", cache, *args, **kw)


def listed(cache):
    return json.loads(run_cache(cache, "ls", "--json").stdout)


def usage(cache):
    return json.loads(run_cache(cache, "du", "--json").stdout)


def forgive(name, key, got, want):
    """What a TOC cannot say: parts of a second, an empty xattr that umoci drops."""
    if key == "mtime":
        return got == want // 10**9 * 10**9
    return name == b"edge/xattr/user" and key == "xattrs" and \
        {k: v for k, v in (got or {}).items() if k != b"user.empty"} == want


def expect_truth(mnt, truth):
    got, want = trees.with_toc_names(trees.scan(mnt)), trees.with_toc_names(truth)
    # The root directory is in no layer: umoci gives it the time of unpacking.
    got.pop(b""), want.pop(b"")
    assert trees.differences(got, want, forgive) == []


def make_old(cache):
    """All that is there was used an hour ago (blobcache/README.md, "ready")."""
    for path in glob.glob(f"{cache}/blobs/*/*/*/ready"):
        with open(path, "r+b") as f:
            f.seek(96)
            f.write(struct.pack("<I", int(time.time()) - 3600) * 1000)


def spoil(cache):
    """Turn one bit in the middle of each data file's bytes."""
    for path in data_files(cache):
        with open(path, "r+b") as f:
            where = os.lseek(f.fileno(), os.path.getsize(path) // 2, os.SEEK_DATA)
            byte = os.pread(f.fileno(), 1, where + 7)
            os.pwrite(f.fileno(), bytes([byte[0] ^ 4]), where + 7)


# ---- fetch ----

def test_what_was_fetched_is_read_without_the_network(own, cache, mnt):
    p = tools.sluice("fetch", "--cache", cache, own.ref)
    assert p.stdout == "" and p.stderr == ""
    digest = listed(cache)[0]["digest"]
    own.stop()
    tools.mount(cache, f"{own.ref[:-2]}@{digest}", mnt)
    assert len(trees.scan(mnt)) > 300
    s = tools.status(mnt)
    assert s["complete"] and s["read_errors"] == 0 and s["requests_http"] == 0
    tools.umount(mnt)


def test_a_mount_fetches_all_when_it_is_asked(samples, engine, cache, mnt):
    tools.mount(cache, samples["edge-zstdchunked"], mnt, "--io-backend", engine)
    assert tools.status(mnt)["complete"] is False
    assert tools.sluice("fetch", "--wait", mnt).stdout == ""
    s = tools.status(mnt)
    assert s["complete"] is True
    assert len(trees.scan(mnt)) > 300
    # A second time there is nothing to do.
    tools.sluice("fetch", mnt)
    tools.umount(mnt)


def test_unmount_ends_a_fetch(samples, cache, mnt):
    tools.mount(cache, samples["edge-estargz"], mnt)
    tools.sluice("fetch", mnt)
    tools.umount(mnt)


def test_fetch_says_when_the_cache_is_too_small(samples, cache):
    p = tools.sluice("fetch", "-q", "--cache", cache, "--cache-size", "8M",
                     samples["edge-zstdchunked"], check=False)
    assert "--cache-size" in tools.one_sentence(p, 1)
    assert disk_bytes(cache) < 12 * MIB


# ---- room ----

@pytest.mark.parametrize("kind", ["edge-gzip", "edge-zstdchunked"])
def test_a_small_cache_shows_the_truth(kind, engine, samples, edge_truth, cache, mnt):
    tools.mount(cache, samples[kind], mnt, "-q", "--cache-size", "16M", "--io-backend", engine)
    for _ in range(2):
        expect_truth(mnt, edge_truth)
    assert tools.status(mnt)["read_errors"] == 0
    tools.umount(mnt)
    # What was under way when it was full comes on top.
    assert disk_bytes(cache) < 32 * MIB


def test_streamed_layers_are_lazy_after_eviction(samples, edge_truth, cache, mnt):
    tools.mount(cache, samples["edge-gzip"], mnt, "-q")
    expect_truth(mnt, edge_truth)
    tools.umount(mnt)
    run_cache(cache, "prune", "--size", "4M")
    assert disk_bytes(cache) < 5 * MIB
    p = tools.mount(cache, samples["edge-gzip"], mnt, "--prefetch=none")
    assert p.stderr == ""
    s = tools.status(mnt)
    assert s["bytes_fetched"] < 65536 and s["complete"] is False
    expect_truth(mnt, edge_truth)
    tools.umount(mnt)


def test_prune_under_mounts(samples, engine, edge_truth, cache, mnt, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    tools.mount(cache, samples["edge-zstdchunked"], mnt, "--io-backend", engine)
    expect_truth(mnt, edge_truth)
    tools.mount(cache, samples["edge-zstdchunked"], other, "--io-backend", engine)
    try:
        run_cache(cache, "prune", "--all")
        expect_truth(other, edge_truth)
        expect_truth(mnt, edge_truth)
        # null: the image was complete, and the kernel reads it without a process
        assert not tools.status(other)["read_errors"]
    finally:
        tools.umount(other)
    tools.umount(mnt)
    run_cache(cache, "prune", "--all")
    assert data_files(cache) == [] and listed(cache) == []


def test_readers_of_two_mounts_while_prune_is_killed(samples, edge_truth, cache, mnt, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    rng = random.Random(5)
    for _ in range(4):
        tools.mount(cache, samples["edge-zstdchunked"], mnt, "--cache-size", "24M")
        tools.mount(cache, samples["edge-zstdchunked"], other)
        try:
            for where in (mnt, other):
                with subprocess.Popen([tools.BIN, "cache", "--cache", str(cache), "prune",
                                       "--size", f"{rng.randrange(30)}M"],
                                      stdout=subprocess.DEVNULL) as p:
                    time.sleep(rng.random() / 50)
                    p.kill()
                expect_truth(where, edge_truth)
                assert tools.status(where)["read_errors"] == 0
        finally:
            tools.umount(other)
        tools.kill(tools.pid_of(mnt))
        tools.sluice("umount", "-l", mnt, check=False)
        subprocess.run(["umount", "-l", str(mnt)], check=False, capture_output=True)
    assert run_cache(cache, "verify").returncode == 0


def test_what_the_kernel_has_is_not_taken_from_it(samples, edge_truth, cache, mnt):
    if not tools.has_erofs():
        pytest.skip("this kernel's EROFS mounts no files")
    tools.sluice("fetch", "--cache", cache, samples["edge-zstdchunked"])
    tools.mount(cache, samples["edge-zstdchunked"], mnt, "--driver", "erofs",
                "--prefetch", "none")
    assert tools.status(mnt)["pid"] is None
    sealed = usage(cache)["bytes_sealed"]
    assert sealed > 0
    run_cache(cache, "prune", "--all")
    assert usage(cache)["bytes_sealed"] == sealed
    expect_truth(mnt, edge_truth)
    tools.umount(mnt)
    run_cache(cache, "prune", "--all")
    assert data_files(cache) == []


def test_cleared_bits_are_on_the_disk_before_holes_are_punched(samples, cache, tmp_path):
    tools.sluice("fetch", "-q", "--cache", cache, samples["edge-zstdchunked"])
    with open(tmp_path / "trace", "w", encoding="utf-8") as trace:
        subprocess.run(["strace", "-y", "-e", "trace=fsync,fallocate", tools.BIN, "cache",
                        "--cache", str(cache), "prune", "--size", "20M"], check=True,
                       stdout=subprocess.DEVNULL, stderr=trace)
    synced, punched = set(), 0
    for line in (tmp_path / "trace").read_text().splitlines():
        m = re.match(r"(fsync|fallocate)\(\d+<(.*)/(ready|data)>", line)
        if m and m[1] == "fsync" and m[3] == "ready":
            synced.add(m[2])
        elif m and m[1] == "fallocate":
            assert m[2] in synced
            punched += 1
    assert punched > 0


# ---- pins, names ----

def test_pinned_images_stay(samples, cache, tmp_path):
    keep, other = samples["edge-zstdchunked"], samples["edge-estargz"]
    for ref in (keep, other):
        tools.sluice("fetch", "-q", "--cache", cache, ref)
    run_cache(cache, "pin", keep)
    assert {i["name"]: i["pinned"] for i in listed(cache)} == {keep: True, other: False}
    before = usage(cache)["bytes_pinned"]
    assert before > 0
    p = run_cache(cache, "prune", keep, check=False)
    assert "unpin it first" in tools.one_sentence(p, 1)
    for args in (["--size", "0"], ["--older", "1s"], ["--all"]):
        time.sleep(1.1 if args[0] == "--older" else 0)
        run_cache(cache, "prune", *args)
    assert [i["name"] for i in listed(cache)] == [keep]
    assert usage(cache)["bytes_pinned"] == before
    assert tools.sluice("check", "--cache", cache, keep).returncode == 0
    run_cache(cache, "unpin", listed(cache)[0]["digest"])
    run_cache(cache, "prune", keep)
    assert listed(cache) == [] and data_files(cache) == []


def test_shared_blobs_stay_while_an_image_needs_them(samples, cache):
    both = [samples["edge-zstdchunked"], samples["edge-zstdchunked"].replace(":1", ":again")]
    tools.skopeo_copy(f"docker://{both[0]}", f"docker://{both[1]}")
    for ref in both:
        tools.sluice("fetch", "-q", "--cache", cache, ref)
    # One image, known by two names.
    assert [len(i["names"]) for i in listed(cache)] == [2]
    run_cache(cache, "prune")
    assert tools.sluice("check", "--cache", cache, both[1]).returncode == 0
    assert usage(cache)["bytes_unneeded"] == 0


def test_prune_of_an_image_leaves_what_another_mount_is_at(samples, cache):
    ref = samples["edge-zstdchunked"]
    tools.sluice("fetch", "-q", "--cache", cache, ref)
    ours = os.listdir(f"{cache}/blobs/sha256")
    for top in "blobs", "layers":
        shutil.copytree(f"{cache}/{top}/sha256/{ours[0]}", f"{cache}/{top}/sha256/{64 * 'a'}")
    run_cache(cache, "prune", ref, listed(cache)[0]["digest"])
    for top in "blobs", "layers":
        assert os.listdir(f"{cache}/{top}/sha256") == [64 * "a"]
    assert glob.glob(f"{cache}/blobs/sha256/*/*/data")


def test_prune_all_takes_beginnings_of_layers_too(cache):
    run_cache(cache, "ls")
    for name in ("part-sha256-" + 64 * "0", "1234"):
        (cache / "tmp" / name).write_bytes(b"x" * 100)
    run_cache(cache, "prune", "--all")
    assert os.listdir(cache / "tmp") == []


def test_unknown_images_are_exit_code_3(cache):
    for args in (["pin", "a.b/c:1"], ["unpin", "a.b/c:1"], ["prune", "a.b/c:1"]):
        assert "a.b/c:1" in tools.one_sentence(run_cache(cache, *args, check=False), 3)
    p = tools.sluice("check", "--cache", cache, "a.b/c:1", check=False)
    assert "--all" in tools.one_sentence(p, 3)


# ---- reading back ----

@pytest.mark.parametrize("way", ["verify", "check"])
def test_a_turned_bit_is_found_and_mended(way, samples, edge_truth, cache, mnt):
    ref = samples["edge-zstdchunked"]
    tools.sluice("fetch", "-q", "--cache", cache, ref)
    spoil(cache)

    def look():
        args = ["cache", "verify"] if way == "verify" else ["check", ref]
        return tools.sluice(args[0], "--cache", cache, *args[1:], check=False)
    p = look()
    assert p.returncode == 5 and "fetched again" in p.stdout
    assert look().returncode == 0
    tools.mount(cache, ref, mnt)
    expect_truth(mnt, edge_truth)
    tools.umount(mnt)


def test_check_all_fetches_and_mends(samples, cache):
    ref = samples["edge-zstdchunked"]
    p = tools.sluice("check", "--all", "--cache", cache, ref)
    assert "verified" in p.stdout
    spoil(cache)
    p = tools.sluice("check", "--all", "--cache", cache, ref, check=False)
    assert p.returncode == 5
    p = tools.sluice("check", "--all", "--cache", cache, ref)
    have = listed(cache)[0]
    assert have["chunks"] == have["chunks_cached"] > 0


def test_torn_files_are_found_and_made_anew(samples, edge_truth, cache, mnt):
    ref = samples["edge-zstdchunked"]
    tools.sluice("fetch", "-q", "--cache", cache, ref)
    index = glob.glob(f"{cache}/images/*/*/index")[0]
    os.truncate(index, 8192)
    for name in ("ready", "map", "data"):
        os.truncate(data_files(cache)[0].replace("/data", "/" + name), 100)
        p = run_cache(cache, "verify", check=False)
        assert p.returncode == 5 and "torn" in p.stdout
        run_cache(cache, "ls")
        tools.mount(cache, ref, mnt)
        expect_truth(mnt, edge_truth)
        tools.umount(mnt)


def test_a_read_only_cache_is_looked_at_only(samples, tmp_path):
    place = tmp_path / "ro"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "t", str(place)], check=True)
    try:
        tools.sluice("fetch", "-q", "--cache", place, samples["edge-zstdchunked"])
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        assert len(listed(place)) == 1
        assert run_cache(place, "verify").returncode == 0
        p = run_cache(place, "prune", "--all", check=False)
        assert p.returncode == 1 and "read-only" in p.stderr.lower()
        p = run_cache(place, "pin", samples["edge-zstdchunked"], check=False)
        assert p.returncode == 1
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_makes_room(samples, edge_truth, mnt, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700,size=60m", "t", str(place)], check=True)
    try:
        tools.sluice("fetch", "-q", "--cache", place, samples["edge-zstdchunked"])
        make_old(place)
        old = data_files(place)
        before = blocks_of(old)
        tools.mount(place, samples["edge-estargz"], mnt)
        expect_truth(mnt, edge_truth)
        s = tools.status(mnt)
        assert s["read_errors"] == 0 and s["bytes_cached"] > 0
        # The other image made room.
        assert blocks_of(old) < before
    finally:
        tools.umount(mnt)
        subprocess.run(["umount", str(place)], check=True)

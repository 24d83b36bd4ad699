"""What is fetched before anybody asks, and what a mount learns for the next."""
import glob
import io
import os
import random
import shutil
import tarfile
import time

import pytest
import tools
import trees

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RAFS = f"{ROOT}/tests/samples/rafs"


def records(cache):
    return glob.glob(f"{cache}/images/*/*/record")


def read_some(mnt):
    """Two files of different layers, read by the program's first run."""
    names = ["bin/busybox", "edge/small/f0001"]
    found = [n for n in names if os.path.exists(f"{mnt}/{n}")]
    for name in found:
        with open(f"{mnt}/{name}", "rb") as f:
            f.read()
    assert found
    return found


def forget_data(cache):
    """The cache knows the image, and has none of its bytes."""
    for path in glob.glob(f"{cache}/blobs/*/*/*/ready") + glob.glob(f"{cache}/blobs/*/*/*/data"):
        os.unlink(path)


def cached(mnt):
    return tools.status(mnt)["bytes_cached"]


def test_a_second_mount_replays_the_first_ones_reads(samples, engine, cache, mnt):
    ref = samples["edge-zstdchunked"]
    args = ("--io-backend", engine)
    tools.mount(cache, ref, mnt, *args)
    read_some(mnt)
    tools.wait_for(lambda: cached(mnt) > 0, "nothing is cached")
    tools.umount(mnt)
    assert len(records(cache)) == 1
    forget_data(cache)
    tools.mount(cache, ref, mnt, *args)
    # Nobody has read anything, and yet:
    tools.wait_for(lambda: cached(mnt) > 0, "nothing was replayed")
    assert tools.status(mnt)["reads"] == 0
    tools.wait_for(lambda: replayed(mnt), "the replay does not end")
    before = tools.status(mnt)
    read_some(mnt)
    after = tools.status(mnt)
    # the kernel's EROFS reads on behind a file's end, into other files
    if tools.DRIVER != "erofs":
        assert after["read_misses"] == before["read_misses"]
        assert after["bytes_fetched"] == before["bytes_fetched"]
    tools.umount(mnt)


def replayed(mnt):
    """Two looks that see the same: nothing comes any more."""
    first = tools.status(mnt)
    time.sleep(0.5)
    second = tools.status(mnt)
    return first["bytes_cached"] == second["bytes_cached"] > 0


def test_none_fetches_nothing(samples, cache, mnt):
    ref = samples["edge-zstdchunked"]
    tools.mount(cache, ref, mnt)
    read_some(mnt)
    tools.umount(mnt)
    forget_data(cache)
    tools.mount(cache, ref, mnt, "--prefetch", "none")
    time.sleep(1)
    assert cached(mnt) == 0
    tools.umount(mnt)


def test_a_record_goes_to_another_machine_as_a_file(samples, cache, mnt, tmp_path):
    ref = samples["edge-estargz"]
    tools.mount(cache, ref, mnt, "--record", "order", cwd=tmp_path)
    read_some(mnt)
    tools.umount(mnt)
    assert (tmp_path / "order").stat().st_size > 64
    other = tmp_path / "other"
    tools.mount(other, ref, mnt, "--prefetch=recorded:order", cwd=tmp_path)
    tools.wait_for(lambda: cached(mnt) > 0, "nothing was replayed")
    assert tools.status(mnt)["reads"] == 0
    tools.umount(mnt)


def test_the_record_of_another_image_does_no_harm(samples, cache, mnt, tmp_path):
    tools.mount(cache, samples["edge-zstdchunked"], mnt, "--record", tmp_path / "order")
    read_some(mnt)
    tools.umount(mnt)
    tools.mount(cache, samples["edge-estargz"], mnt,
                f"--prefetch=recorded:{tmp_path}/order")
    assert cached(mnt) == 0
    read_some(mnt)
    tools.umount(mnt)


def test_a_broken_record_is_an_error_if_it_was_named(samples, cache, mnt, tmp_path):
    (tmp_path / "order").write_bytes(b"SLUICREC" + bytes(56))
    p = tools.sluice("mount", "--cache", cache, f"--prefetch=recorded:{tmp_path}/order",
                     samples["edge-estargz"], mnt, check=False)
    assert "order" in tools.one_sentence(p, 5)
    p = tools.sluice("mount", "--cache", cache, f"--prefetch=recorded:{tmp_path}/absent",
                     samples["edge-estargz"], mnt, check=False)
    assert "absent" in tools.one_sentence(p, 1)
    p = tools.sluice("mount", "--cache", cache, "--record", f"{tmp_path}/no/such/place",
                     samples["edge-estargz"], mnt, check=False)
    assert "no/such/place" in tools.one_sentence(p, 1)
    assert not os.path.ismount(mnt)


def test_a_broken_record_in_the_cache_is_made_anew(samples, cache, mnt):
    ref = samples["edge-zstdchunked"]
    tools.mount(cache, ref, mnt)
    read_some(mnt)
    tools.umount(mnt)
    good = os.path.getsize(records(cache)[0])
    for junk in (b"", b"x" * 40, os.urandom(4096)):
        with open(records(cache)[0], "wb") as f:
            f.write(junk)
        tools.mount(cache, ref, mnt)
        read_some(mnt)
        tools.umount(mnt)
        assert os.path.getsize(records(cache)[0]) == good


def test_all_brings_the_whole_image(samples, engine, cache, mnt):
    tools.mount(cache, samples["edge-estargz"], mnt, "--prefetch=all", "--io-backend", engine)
    tools.wait_for(lambda: tools.status(mnt)["complete"], "the image is not completed")
    before = tools.status(mnt)["bytes_fetched"]
    assert trees.scan(mnt)
    # as above: into what no file shows
    if tools.DRIVER != "erofs":
        assert tools.status(mnt)["bytes_fetched"] == before
    tools.umount(mnt)


@pytest.fixture(scope="module")
def big_image(registry, tmp_path_factory):
    """One layer with a file of 48 MiB that cannot be packed."""
    from ocilayout import Layout, trim
    folder = tmp_path_factory.mktemp("big")
    with tarfile.open(folder / "layer.tar", "w") as tar:
        m = tarfile.TarInfo("big")
        m.size = 48 << 20
        tar.addfile(m, io.BytesIO(random.Random(1).randbytes(m.size)))
    trim(folder / "layer.tar")
    Layout(folder / "oci").add_image("1", [folder / "layer.tar"])
    ref = f"{registry.host}/big:1"
    tools.push_chunked(folder / "oci", ref)
    return ref


def read_front(mnt, size):
    with open(f"{mnt}/big", "rb") as f:
        for _ in range(0, size, 1 << 20):
            assert len(f.read(1 << 20)) == 1 << 20


def test_a_sequential_reader_is_kept_ahead_of(big_image, engine, cache, mnt):
    tools.mount(cache, big_image, mnt, "--io-backend", engine)
    read_front(mnt, 6 << 20)
    # 8 MiB ahead at most, and not all of it
    tools.wait_for(lambda: cached(mnt) >= 8 << 20, "nothing is fetched ahead")
    tools.wait_for(lambda: replayed(mnt), "it does not end")
    assert cached(mnt) < 24 << 20
    tools.umount(mnt)


def test_a_layer_that_is_read_whole_comes_whole(big_image, engine, cache, mnt):
    tools.mount(cache, big_image, mnt, "--io-backend", engine)
    read_front(mnt, 24 << 20)
    tools.wait_for(lambda: tools.status(mnt)["complete"], "the rest does not come")
    tools.umount(mnt)


def test_none_does_not_run_ahead_either(big_image, cache, mnt):
    tools.mount(cache, big_image, mnt, "--prefetch=none")
    read_front(mnt, 24 << 20)
    # the kernel's own read-ahead may still be on its way
    tools.wait_for(lambda: replayed(mnt), "it does not end")
    assert cached(mnt) < 32 << 20
    tools.umount(mnt)


def test_the_prefetch_table_is_honoured(cache, mnt):
    """The bundle was made with a list of two files and a directory."""
    tools.mount(cache, f"{RAFS}/v6-prefetch/bootstrap", mnt)
    tools.wait_for(lambda: cached(mnt) > 0, "nothing is fetched ahead")
    s = tools.status(mnt)
    assert s["reads"] == 0
    assert not s["complete"]
    tools.umount(mnt)
    forget_data(cache)
    # from the image's record, too
    tools.mount(cache, f"{RAFS}/v6-prefetch/bootstrap", mnt, "--prefetch=list")
    tools.wait_for(lambda: cached(mnt) == s["bytes_cached"], "not the same again")
    tools.umount(mnt)


def test_a_killed_daemon_has_written_what_it_learned(samples, cache, mnt):
    ref = samples["edge-zstdchunked"]
    tools.mount(cache, ref, mnt)
    read_some(mnt)
    tools.wait_for(lambda: records(cache), "no record is written meanwhile")
    tools.kill(tools.pid_of(mnt))
    forget_data(cache)
    tools.mount(cache, ref, mnt)
    tools.wait_for(lambda: cached(mnt) > 0, "nothing was replayed")
    tools.umount(mnt)


def test_unmounting_in_the_middle_of_it_is_quick(samples, cache, mnt):
    for _ in range(5):
        tools.mount(cache, samples["edge-estargz"], mnt, "--prefetch=all",
                    "--prefetch-rate=10K")
        assert not tools.status(mnt)["complete"]
        tools.umount(mnt)
        shutil.rmtree(cache)
        cache.mkdir(mode=0o700)

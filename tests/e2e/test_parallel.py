"""Many readers at once, cold."""
import concurrent.futures
import os
import stat

import pytest

import tools
import trees

pytestmark = pytest.mark.parallel


def test_64_readers_cold(samples, engine, edge_truth, cache, mnt):
    want = {n: e["sha256"] for n, e in trees.with_toc_names(edge_truth).items()
            if stat.S_ISREG(e["mode"])}
    tools.mount(cache, samples["edge-zstdchunked"], mnt, "--io-backend", engine)
    root = os.fsencode(mnt)
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        got = dict(zip(want, pool.map(lambda n: trees.digest(os.path.join(root, n)), want)))
    assert got == want
    status = tools.status(mnt)
    assert status["read_errors"] == 0 and status["verify_failures"] == 0
    # Every group was fetched once: readers share flights.
    assert status["bytes_fetched"] <= status["bytes_compressed"] * 1.05 + (1 << 20)
    tools.umount(mnt)


def test_many_readers_of_one_file(samples, engine, edge_truth, cache, mnt):
    name = b"edge/text8m"
    tools.mount(cache, samples["edge-zstdchunked"], mnt, "--io-backend", engine)
    path = os.path.join(os.fsencode(mnt), name)
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        got = set(pool.map(lambda _: trees.digest(path), range(64)))
    assert got == {edge_truth[name]["sha256"]}
    tools.umount(mnt)

# SPDX-License-Identifier: Apache-2.0
"""What a mount does while its registry cannot be reached: --offline."""
import subprocess
import time

import pytest

import tools

FILE = "edge/text8m"


def cat(path):
    return subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=False,
                          stderr=subprocess.PIPE, text=True, timeout=60)


def test_block_waits_and_every_reader_completes(own, cache, mnt, edge_truth):
    tools.mount(cache, own.ref, mnt, "--offline", "block")
    own.stop()
    readers = [subprocess.Popen(["sha256sum", mnt / FILE], stdout=subprocess.PIPE, text=True)
               for _ in range(6)]
    tools.wait_for(lambda: tools.status(mnt)["offline"], "status does not say offline")
    victim = subprocess.Popen(["cat", mnt / FILE], stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    victim.terminate()
    assert victim.wait(10) != 0, "a waiting reader can be interrupted"
    assert all(p.poll() is None for p in readers), "a read did not wait"
    own.start()
    for p in readers:
        out, _ = p.communicate(timeout=60)
        assert out.split()[0] == edge_truth[FILE.encode()]["sha256"]
    assert not tools.status(mnt)["offline"]
    tools.umount(mnt)


@pytest.mark.parametrize("policy", ["eio", "2"])
def test_eio_and_seconds_fail_and_recover(policy, own, cache, mnt):
    tools.mount(cache, own.ref, mnt, "-o", f"offline={policy}")
    own.stop()
    began = time.monotonic()
    p = cat(mnt / FILE)
    assert p.returncode != 0 and "Input/output error" in p.stderr
    assert policy == "eio" or time.monotonic() - began > 0.5
    assert tools.status(mnt)["offline"]
    own.start()
    assert cat(mnt / FILE).returncode == 0
    assert not tools.status(mnt)["offline"]
    tools.umount(mnt)

"""Containers started from a mounted image."""
import json
import os
import shutil
import subprocess
import tempfile

import pytest

import tools


@pytest.fixture
def rootfs(busybox_image, cache, mnt, driver):
    tools.mount(cache, busybox_image, mnt)
    yield mnt
    tools.umount(mnt)


@pytest.fixture
def short_tmp():
    """podman refuses a runroot of more than 50 characters."""
    path = tempfile.mkdtemp(dir="/tmp")
    yield path
    subprocess.run(["umount", "-R", "-l", f"{path}/root/overlay"], capture_output=True, check=False)
    shutil.rmtree(path, ignore_errors=True)


def test_podman_runs_a_program_over_the_mount(rootfs, short_tmp):
    p = subprocess.run(
        ["podman", "--root", f"{short_tmp}/root", "--runroot", f"{short_tmp}/run",
         "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none",
         "run", "--rm", "--network", "none", "--ulimit", "nofile=1024:1024",
         "--ulimit", "nproc=1000:1000", "--rootfs", f"{rootfs}:O",
         "/bin/busybox", "echo", "from the image"],
        capture_output=True, text=True, check=False, timeout=tools.TIMEOUT)
    assert p.stdout == "from the image\n", p.stderr
    assert tools.status(rootfs)["bytes_cached"] > 0


def test_runc_runs_on_a_read_only_root(rootfs, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    spec = json.loads((bundle / "config.json").read_text())
    spec["process"].update(terminal=False, args=["/bin/busybox", "id", "-u"],
                           rlimits=[{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}])
    spec["root"] = {"path": str(rootfs), "readonly": True}
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"]
                                   if n["type"] != "network"]
    (bundle / "config.json").write_text(json.dumps(spec))
    name = f"sluice-test-{os.getpid()}"
    p = subprocess.run(["runc", "--root", tmp_path / "runc", "run", "--bundle", bundle, name],
                       capture_output=True, text=True, check=False, timeout=tools.TIMEOUT)
    assert p.stdout == "0\n", p.stderr


def test_chroot_runs_a_program(rootfs):
    out = subprocess.run(["chroot", rootfs, "/bin/busybox", "ls", "/"], check=True,
                         capture_output=True, text=True).stdout
    assert "bin" in out.split()

"""The container that Nix built, in podman: it mounts an image for the host.

Read-only root, no capability but SYS_ADMIN, /dev/fuse, one shared mount.
"""
import glob
import json
import os
import signal
import socket
import subprocess
import time

import pytest

import tools
from conftest import ROOT

IMAGE = "localhost/sluice:0.1.0"
UNCONFINED = ("--security-opt", "seccomp=unconfined")
DEFAULT = ()


class Podman:
    """podman over storage of its own."""

    def __init__(self, folder):
        self.folder = f"{folder}/podman"
        self.command = [
            "podman", "--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run",
            "--tmpdir", f"{self.folder}/tmp", "--runtime", "runc",
            "--cgroup-manager", "cgroupfs", "--events-backend", "none"]

    def __call__(self, *args, check=True):
        p = subprocess.run([*self.command, *args], capture_output=True, text=True,
                           timeout=tools.TIMEOUT, check=False, stdin=subprocess.DEVNULL)
        if check:
            assert p.returncode == 0, f"podman {args}: {p.stdout}{p.stderr}"
        return p

    def close(self):
        self("rm", "-fa", "-t", "2", check=False)
        self("rmi", "-fa", check=False)
        subprocess.run(["umount", "-l", f"{self.folder}/root/overlay"],
                       capture_output=True, check=False)


@pytest.fixture(scope="module")
def podman(folder, archive):
    p = Podman(folder)
    p("load", "-i", archive)
    yield p
    p.close()


def mounts_under(path):
    """Types of what is mounted somewhere below path."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        lines = [line.split() for line in f]
    return [w[w.index("-") + 1] for w in lines if w[4].startswith(str(path) + "/")]


def processes_of(word):
    """Pids of processes whose command line has the word."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                if word.encode() in f.read():
                    found.append(int(path.split("/")[2]))
        except OSError:
            continue
    return found


class Mount:
    """A container that mounts the image at shared/edge."""

    def __init__(self, podman, shared, image):
        self.podman, self.shared, self.image = podman, shared, image
        self.path = f"{shared}/edge"
        self.name = "m" + str(os.getpid())

    def start(self, *options):
        """Run it until the image is there."""
        self.run(*options)
        tools.wait_for(lambda: self.answers() or self.ended(), "the image is not mounted")
        assert not self.ended(), self.log()

    def run(self, *options):
        self.podman(
            "run", "-d", "--name", self.name, "--pull", "never", "--network", "host",
            "--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096",
            "--read-only", "--cap-drop", "all", "--cap-add", "SYS_ADMIN",
            "--security-opt", "no-new-privileges", "--device", "/dev/fuse",
            "-v", f"{self.shared}:/mnt:rshared", *options,
            IMAGE, "mount", "-f", self.image, "/mnt/edge")

    def answers(self):
        """Whether somebody serves the mount; statfs is never answered by the kernel."""
        try:
            os.statvfs(self.path)
        except OSError:
            return False
        return os.path.isdir(f"{self.path}/bin")

    def ended(self):
        return not self.pid()

    def pid(self):
        return int(self.podman("inspect", "--format", "{{.State.Pid}}", self.name).stdout)

    def log(self):
        p = self.podman("logs", self.name, check=False)
        return p.stdout + p.stderr

    def status(self):
        return json.loads(self.podman("exec", self.name, "/bin/sluice", "status", "--json",
                                      "/mnt/edge").stdout)

    def stop(self):
        self.podman("stop", "-t", "20", self.name)
        code = self.podman("inspect", "--format", "{{.State.ExitCode}}", self.name).stdout
        self.podman("rm", "-v", self.name)
        return int(code)


@pytest.fixture
def mount(podman, image, folder):
    shared = f"{folder}/shared"
    os.makedirs(f"{shared}/edge", exist_ok=True)
    subprocess.run(["mount", "--bind", shared, shared], check=True)
    subprocess.run(["mount", "--make-rshared", shared], check=True)
    m = Mount(podman, shared, image)
    yield m
    podman("rm", "-f", "-v", "-t", "2", m.name, check=False)
    for path in (m.path, m.path, shared):
        subprocess.run(["umount", "-l", path], capture_output=True, check=False)


def read_all(path):
    """Read every regular file; gives (files, bytes)."""
    files = size = 0
    for folder, _, names in os.walk(path):
        for name in map(os.fsencode, names):
            full = os.path.join(os.fsencode(folder), name)
            if os.path.isfile(full) and not os.path.islink(full):
                with open(full, "rb") as f:
                    while part := f.read(1 << 20):
                        size += len(part)
                files += 1
    return files, size


def test_it_says_its_version(podman):
    out = podman("run", "--rm", "--pull", "never", "--network", "none", "--read-only",
                 "--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096",
                 "--cap-drop", "all", IMAGE, "--version").stdout
    assert out.startswith("sluice 0.1.0\n")
    assert "io_uring: yes" in out


def test_the_host_reads_what_the_container_mounts(mount):
    mount.start(*UNCONFINED)
    assert "fuse.sluice" in mounts_under(mount.shared)
    files, size = read_all(mount.path)
    assert files > 2000 and size > 100 << 20
    assert os.path.exists(f"{mount.path}/bin/busybox")
    status = mount.status()
    assert status["io_backend"] == "uring", status["io_backend_reason"]
    assert status["read_errors"] == 0 and status["bytes_fetched"] > 0


def test_sigterm_leaves_no_mount_and_no_process(mount, folder):
    mount.start(*UNCONFINED)
    pid = mount.pid()
    begin = time.monotonic()
    assert mount.stop() == 0
    assert time.monotonic() - begin < 20, "it had to be killed"
    assert mounts_under(mount.shared) == []
    assert os.listdir(mount.path) == []
    tools.wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the daemon lives")
    tools.wait_for(lambda: not processes_of(f"{folder}/podman"), "conmon lives")


def test_without_io_uring_it_runs_on_threads_and_says_why(mount):
    mount.start(*DEFAULT)
    files, _ = read_all(mount.path)
    assert files > 2000
    status = mount.status()
    assert status["io_backend"] == "threads"
    assert "io_uring" in status["io_backend_reason"]
    assert status["read_errors"] == 0
    assert mount.stop() == 0
    assert mounts_under(mount.shared) == []


@pytest.mark.parametrize("seccomp", [UNCONFINED, DEFAULT], ids=["uring", "threads"])
def test_after_sigkill_the_next_start_cleans_up(mount, seccomp):
    mount.start(*seccomp)
    os.kill(mount.pid(), signal.SIGKILL)
    tools.wait_for(mount.ended, "podman does not notice")
    with pytest.raises(OSError):
        os.listdir(mount.path)
    mount.podman("rm", "-v", mount.name)
    assert mounts_under(mount.shared) == ["fuse.sluice"]

    mount.start(*seccomp)
    assert mounts_under(mount.shared) == ["fuse.sluice"]
    assert os.path.exists(f"{mount.path}/bin/busybox")
    assert mount.stop() == 0
    assert mounts_under(mount.shared) == []


def test_sigterm_ends_it_while_it_waits_for_the_registry(mount):
    """A container's first process does not die of signals by default."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mount.image = f"127.0.0.1:{silent.getsockname()[1]}/edge:1"
        mount.run(*UNCONFINED)
        with silent.accept()[0]:
            mount.podman("kill", "-s", "TERM", mount.name)
            tools.wait_for(mount.ended, "it goes on")
    assert mounts_under(mount.shared) == []


def test_certificates_are_checked_against_the_bundle(podman, folder):
    """The image's own, or the one that SSL_CERT_FILE names."""
    with subprocess.Popen(["/usr/bin/python3", f"{ROOT}/tests/lib/faultserver.py"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        _, _, port, crt = server.stdout.readline().split()

        def inspect(*options):
            return podman("run", "--rm", "--pull", "never", "--network", "host",
                          "--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096",
                          "--read-only", "--cap-drop", "all", *options, IMAGE, "inspect",
                          f"localhost:{port}/open:1", check=False).stderr
        refused = inspect()
        accepted = inspect("-v", f"{crt}:/ca.crt:ro", "-e", "SSL_CERT_FILE=/ca.crt")
        server.stdin.close()
    assert "self-signed certificate" in refused, refused
    assert accepted and "certificate" not in accepted, accepted


@pytest.mark.parametrize("missing,sentence", [
    ("--cap-add", "Operation not permitted"),
    ("--device", "/dev/fuse"),
])
def test_what_is_missing_is_said(mount, missing, sentence):
    """Without the capability or the device: one sentence, no mount."""
    options = {"--cap-add": "SYS_ADMIN", "--device": "/dev/fuse"}
    del options[missing]
    given = [w for pair in options.items() for w in pair]
    p = mount.podman(
        "run", "--rm", "--pull", "never", "--network", "host",
        "--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096", "--read-only",
        "--cap-drop", "all", *given, "-v", f"{mount.shared}:/mnt:rshared",
        IMAGE, "mount", "-f", mount.image, "/mnt/edge", check=False)
    assert p.returncode != 0
    assert sentence in p.stderr, p.stderr
    assert mounts_under(mount.shared) == []

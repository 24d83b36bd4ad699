"""Fixtures of the Nix tests: a copy of the tree, real Nix with a store of its
own, and the stand-in for nixpkgs. Nothing is asked of a network, and nothing is
left on the machine."""
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import tools  # noqa: E402

TIMEOUT = 600
# What the stand-in is made of; the sandbox shows no more of the machine.
HOST = [p for p in ("/bin", "/usr", "/lib", "/lib64", "/var/lib/dpkg") if os.path.exists(p)]


def pytest_configure(config):
    assert os.geteuid() == 0, "the Nix tests use a sandbox and containers: run them as root"


class Nix:
    """The commands of Nix over a store and a home of their own."""

    def __init__(self, folder, tree):
        self.store = f"{folder}/store"
        self.tree = tree
        home = f"{folder}/home"
        os.makedirs(home)
        self.env = {
            **os.environ, "HOME": home, "NIX_CONF_DIR": home, "XDG_CACHE_HOME": f"{home}/cache",
            "NIX_CONFIG": "\n".join([
                "substituters =", "sandbox = true", "sandbox-fallback = false",
                "sandbox-paths = " + " ".join(HOST), "build-users-group =",
                "experimental-features = nix-command flakes"])}
        for name in ("NIX_PATH", "NIX_REMOTE", "NIX_STORE_DIR"):
            self.env.pop(name, None)

    def try_run(self, *args, cwd=None):
        """Run a command of Nix; gives the completed process."""
        return subprocess.run([args[0], "--store", self.store, *args[1:]],
                              cwd=cwd or self.tree, env=self.env, capture_output=True,
                              text=True, check=False, timeout=TIMEOUT)

    def run(self, *args, cwd=None):
        """Run a command that must succeed; gives its output."""
        p = self.try_run(*args, cwd=cwd)
        assert p.returncode == 0, f"{args}: {p.stderr[-6000:]}"
        return p.stdout

    def build(self, attribute, *args):
        """nix-build nix -A ATTRIBUTE with the stand-in; gives the store path."""
        return self.run("nix-build", "nix", "--arg", "pkgs", "import ./nix/hostpkgs { }",
                        "-A", attribute, "--no-out-link", *args).split()[-1]

    def flake(self, command, *args):
        """A command on the flake, with the stand-in in the place of nixpkgs."""
        words = command.split()
        return self.run("nix", *words, "./nix", *args, "--no-write-lock-file",
                        "--override-input", "nixpkgs", "path:./nix/hostpkgs")

    def file(self, path):
        """Where a store path is on this machine."""
        return self.store + path


def copy_of_tree(to):
    """What git would take, committed: a flake is what git knows."""
    top = ["meson.build", "meson_options.txt", "blobcache", "loader", "nix", "runtime", "tests"]
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in top:
        if os.path.isdir(f"{ROOT}/{name}"):
            shutil.copytree(f"{ROOT}/{name}", f"{to}/{name}", symlinks=True, ignore=ignore)
        else:
            os.makedirs(to, exist_ok=True)
            shutil.copy2(f"{ROOT}/{name}", f"{to}/{name}")
    for args in (["init", "-q"], ["add", "-A"],
                 ["-c", "user.name=test", "-c", "user.email=test@localhost",
                  "commit", "-q", "-m", "tree"]):
        subprocess.run(["git", "-C", to, *args], check=True,
                       env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"})


def sandbox_works(nix):
    """Why Nix cannot build in its sandbox here; None: it can."""
    p = nix.try_run("nix-build", "--no-out-link", "-E",
                    'derivation { name = "probe"; system = builtins.currentSystem; '
                    'builder = "/bin/bash"; args = [ "-c" "echo > $out; exit 0" ]; }')
    if p.returncode == 0:
        return None
    return ([line for line in p.stderr.splitlines() if "error" in line] or ["?"])[-1]


@pytest.fixture(scope="session")
def folder():
    """A directory for everything; short, for it is part of socket paths."""
    path = tempfile.mkdtemp(prefix="sluice-nix-")
    os.chmod(path, 0o755)
    yield path
    # store paths are read-only
    subprocess.run(["chmod", "-R", "u+w", path], check=False)
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def nix(folder):
    tree = f"{folder}/tree"
    copy_of_tree(tree)
    nix = Nix(folder, tree)
    why = sandbox_works(nix)
    if why:
        pytest.skip(f"Nix cannot build in a sandbox on this machine: {why}")
    return nix


@pytest.fixture(scope="session")
def package(nix):
    """The store path of the program."""
    return nix.build("sluice")


@pytest.fixture(scope="session")
def archive(nix):
    """The container's archive, as a file."""
    return nix.file(nix.build("container"))


@pytest.fixture(scope="session")
def image(folder):
    """The reference of a zstd:chunked image in a registry on loopback."""
    with tools.Registry(f"{folder}/registry") as r:
        ref = f"{r.host}/edge:1"
        tools.skopeo_copy(f"oci:{ROOT}/tests/samples/oci/edge-zstdchunked", f"docker://{ref}")
        yield ref

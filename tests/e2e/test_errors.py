"""Each thing that goes wrong: one sentence, the right exit code."""
import os
import subprocess

import pytest

import tools
from conftest import SAMPLES


def fails(code, *args, **kw):
    return tools.one_sentence(tools.sluice(*args, check=False, **kw), code)


def test_usage():
    for args in ([], ["frobnicate"], ["mount"], ["mount", "--no-such"], ["mount", "a", "b", "c"],
                 ["mount", "--io-backend", "magic", "x.y/z", "/mnt"],
                 ["status", "--bad"], ["umount"]):
        p = tools.sluice(*args, check=False)
        assert p.returncode == 2, args
        assert p.stdout == "" and p.stderr


@pytest.mark.parametrize("command", [[], ["mount"], ["umount"], ["status"], ["inspect"]])
def test_help_goes_to_stdout_in_80_columns(command):
    p = tools.sluice(*command, "--help")
    assert p.stderr == ""
    assert p.stdout.lower().startswith("usage: sluice")
    assert max(map(len, p.stdout.splitlines())) <= 80


def test_version():
    assert "sluice" in tools.sluice("--version").stdout


def test_names(cache, mnt, registry):
    for name in ("debian", "a.b/UPPER", "127.0.0.1:1/", "a.b/c:", "a.b/c@sha256:12"):
        fails(2, "mount", "--cache", cache, name, mnt)
    assert "docker.io/library/debian" in fails(2, "mount", "--cache", cache, "debian", mnt)


def test_unknown_mount_option_is_refused_before_the_image_is_looked_at(cache, mnt):
    nobody = f"127.0.0.1:{tools.free_port()}/a/b:1"
    for more in ([], ["-f"]):
        line = fails(2, "mount", *more, "--cache", cache, "-o", "ro,foo=bar", nobody, mnt)
        assert "foo=bar" in line
    assert "auto_unmount" in fails(2, "mount", "--cache", cache, "-o", "auto_unmount", nobody, mnt)
    assert os.listdir(cache) == []


def test_unknown_image_and_tag(cache, mnt, registry, samples):
    assert "no/such" in fails(3, "mount", "--cache", cache, f"{registry.host}/no/such:1", mnt)
    ref = samples["edge-zstdchunked"].rsplit(":", 1)[0]
    assert "nosuchtag" in fails(3, "mount", "--cache", cache, f"{ref}:nosuchtag", mnt)
    fails(3, "mount", "--cache", cache, f"{ref}@sha256:{'0' * 64}", mnt)
    fails(3, "mount", "--cache", cache, "/no/such/bootstrap", mnt)
    fails(3, "mount", "--cache", cache, f"oci:{SAMPLES}/oci/edge-gzip:nosuch", mnt)


def test_dead_server(cache, mnt):
    port = tools.free_port()
    assert f"127.0.0.1:{port}" in fails(1, "mount", "--cache", cache, f"127.0.0.1:{port}/a/b:1", mnt)


def test_refused_names_the_auth_files(cache, mnt, tmp_path, samples):
    line = subprocess.run(["htpasswd", "-Bbn", "user", "secret"], check=True,
                          capture_output=True, text=True).stdout
    auth = tmp_path / "auth.json"
    with tools.Registry(tmp_path / "r", htpasswd=line) as r:
        ref = f"{r.host}/x/y:1"
        tools.skopeo_copy(f"docker://{samples['edge-zstdchunked']}", f"docker://{ref}",
                          "--dest-creds", "user:secret")
        said = fails(4, "mount", "--cache", cache, ref, mnt)
        assert "auth.json" in said
        auth.write_text('{"auths": {"%s": {"auth": "dXNlcjp3cm9uZw=="}}}' % r.host)
        said = fails(4, "mount", "--cache", cache, "--authfile", auth, ref, mnt)
        assert str(auth) in said and "wrong" not in said and "dXNlcjp3cm9uZw" not in said
        auth.write_text('{"auths": {"%s": {"auth": "dXNlcjpzZWNyZXQ="}}}' % r.host)
        tools.mount(cache, ref, mnt, "--authfile", auth)
        assert os.listdir(mnt)
        tools.umount(mnt)


def test_broken_images(cache, mnt, tmp_path):
    boot = tmp_path / "bootstrap"
    data = open(f"{SAMPLES}/rafs/v6-zstd/bootstrap", "rb").read()
    boot.write_bytes(data[:len(data) // 2])
    fails(5, "mount", "--cache", cache, "--blobs", f"{SAMPLES}/rafs/v6-zstd/blobs", boot, mnt)
    boot.write_bytes(b"not an image" * 1000)
    p = tools.sluice("mount", "--cache", cache, boot, mnt, check=False)
    assert p.returncode in (5, 6)
    layout = tools.copy_tree(f"{SAMPLES}/oci/edge-zstdchunked", tmp_path / "layout")
    blobs = sorted((layout / "blobs" / "sha256").iterdir(), key=lambda b: b.stat().st_size)
    broken = bytearray(blobs[-1].read_bytes())
    # The table of contents lies near the end of the biggest layer.
    for i in range(len(broken) - 2000, len(broken) - 200):
        broken[i] ^= 0xff
    blobs[-1].write_bytes(broken)
    fails(5, "mount", "--cache", cache, "oci:" + tools.layout_ref(str(layout)), mnt)


def test_mount_points(cache, mnt, samples, tmp_path):
    ref = samples["edge-zstdchunked"]
    assert "nowhere" in fails(1, "mount", "--cache", cache, ref, tmp_path / "nowhere")
    plain = tmp_path / "file"
    plain.write_text("x")
    fails(1, "mount", "--cache", cache, ref, plain)
    tools.mount(cache, ref, mnt)
    fails(1, "mount", "--cache", cache, ref, mnt)
    assert os.listdir(mnt)
    tools.umount(mnt)


def test_dev_fuse_missing(cache, mnt, samples):
    p = subprocess.run(
        ["unshare", "-m", "sh", "-c",
         f"mount -t tmpfs t /dev && exec {os.path.abspath(tools.BIN)} mount"
         f" --cache {cache} {samples['edge-zstdchunked']} {mnt}"],
        capture_output=True, text=True, check=False)
    assert "/dev/fuse" in tools.one_sentence(p, 6) or p.returncode == 1


def test_defaults_are_accepted(cache, mnt, samples):
    tools.mount(cache, samples["edge-zstdchunked"], mnt, "--driver", "auto", "--transport", "auto",
                "--prefetch", "none", "--offline", "block", "--workers", "2", "-v",
                "--log", cache.parent / "log", "-o", "ro,allow_other")
    assert tools.status(mnt)["workers"] == 2
    tools.umount(mnt)
    assert (cache.parent / "log").read_text()

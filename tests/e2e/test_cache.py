"""What was read once is not fetched again; what lies is noticed."""
import glob
import http.server
import os
import subprocess
import threading

import tools
import trees


def data_files(cache):
    return glob.glob(f"{cache}/blobs/*/*/*/data")


def test_remount_fetches_nothing(samples, engine, cache, mnt):
    tools.mount(cache, samples["edge-zstdchunked"], mnt, "--io-backend", engine)
    before = trees.scan(mnt)
    first = tools.status(mnt)
    assert first["bytes_fetched"] > 0
    tools.umount(mnt)
    digest = first["digest"]
    by_digest = samples["edge-zstdchunked"].rsplit(":", 1)[0] + "@" + digest
    tools.mount(cache, by_digest, mnt, "--io-backend", engine)
    assert trees.differences(trees.scan(mnt), before) == []
    again = tools.status(mnt)
    assert not again["bytes_fetched"] and not again["requests_http"]
    assert again["complete"] is True
    tools.umount(mnt)


def test_remount_by_digest_loads_no_library_for_the_network(samples, cache, mnt):
    image = samples["edge-zstdchunked"]
    tools.mount(cache, image, mnt)
    trees.scan(mnt)
    digest = tools.status(mnt)["digest"]
    tools.wait_for(lambda: tools.status(mnt)["complete"], "the cache is not filled")
    tools.umount(mnt)
    tools.mount(cache, image.rsplit(":", 1)[0] + "@" + digest, mnt, "--driver", "fuse")
    trees.scan(mnt)
    with open(f"/proc/{tools.pid_of(mnt)}/maps", encoding="utf-8") as f:
        maps = f.read()
    assert "libc.so" in maps and "libcurl" not in maps
    tools.umount(mnt)


def test_killed_daemon_loses_nothing(samples, cache, mnt):
    tools.mount(cache, samples["edge-zstdchunked"], mnt)
    before = trees.scan(mnt)
    # A read is answered before its bytes are in the cache file.
    tools.wait_for(lambda: tools.status(mnt)["complete"], "the cache is not filled")
    tools.kill(tools.pid_of(mnt))
    tools.mount(cache, samples["edge-zstdchunked"], mnt)
    assert trees.differences(trees.scan(mnt), before) == []
    # A tag is asked for by HEAD; nothing else crosses the network.
    assert tools.status(mnt)["bytes_fetched"] == 0
    tools.umount(mnt)


def test_registry_gone_the_last_digest_counts(own, cache, mnt):
    tools.mount(cache, own.ref, mnt)
    before = trees.scan(mnt)
    tools.umount(mnt)
    own.stop()
    p = tools.mount(cache, own.ref, mnt)
    assert len(p.stderr.strip().splitlines()) == 1 and "warning" in p.stderr
    assert trees.differences(trees.scan(mnt), before) == []
    tools.umount(mnt)


class PromisesOnly(http.server.BaseHTTPRequestHandler):
    """Every tag has a digest, but there is no manifest to be had."""

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Docker-Content-Digest", "sha256:" + 64 * "0")
        self.end_headers()

    def do_GET(self):
        self.send_error(404)

    def log_message(self, *args):
        pass


def test_a_digest_without_its_manifest_is_not_remembered(own, cache, mnt):
    tools.mount(cache, own.ref, mnt)
    tools.umount(mnt)
    own.stop()
    with http.server.ThreadingHTTPServer(("127.0.0.1", own.port), PromisesOnly) as fake:
        threading.Thread(target=fake.serve_forever, daemon=True).start()
        p = tools.sluice("mount", "--cache", cache, "--plain-http", own.ref, mnt, check=False)
        tools.one_sentence(p, 3)
        fake.shutdown()
    tools.mount(cache, own.ref, mnt)
    assert os.listdir(mnt)
    tools.umount(mnt)


def test_torn_cache_files_are_refetched(samples, cache, mnt):
    tools.mount(cache, samples["edge-zstdchunked"], mnt)
    before = trees.scan(mnt)
    tools.umount(mnt)
    files = data_files(cache)
    assert files
    for i, path in enumerate(files):
        size = os.path.getsize(path)
        os.truncate(path, size // 2 if i % 2 else 0)
    for path in glob.glob(f"{cache}/blobs/*/*/*/ready")[:1]:
        os.truncate(path, 10)
    subprocess.run(["sync"], check=True)
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3")
    tools.mount(cache, samples["edge-zstdchunked"], mnt)
    assert trees.differences(trees.scan(mnt), before) == []
    tools.umount(mnt)


def test_cache_of_somebody_else_is_refused(samples, cache, mnt):
    os.chown(cache, 12345, 12345)
    p = tools.sluice("mount", "--cache", cache, samples["edge-zstdchunked"], mnt, check=False)
    assert str(cache) in tools.one_sentence(p, 1)
    os.chown(cache, 0, 0)
    os.chmod(cache, 0o777)
    p = tools.sluice("mount", "--cache", cache, samples["edge-zstdchunked"], mnt, check=False)
    assert str(cache) in tools.one_sentence(p, 1)


def test_full_disk_loses_only_the_caching(samples, mnt, tmp_path):
    small = tmp_path / "small"
    small.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", small], check=True)
    try:
        tools.mount(small, samples["edge-zstdchunked"], mnt)
        tree = trees.scan(mnt)
        assert tools.status(mnt)["read_errors"] == 0
        assert tools.status(mnt)["complete"] is False
        tools.umount(mnt)
        assert len(tree) > 300
    finally:
        subprocess.run(["umount", "-l", small], check=False)


def test_wrong_bytes_from_the_server_never_arrive(own, edge_truth, cache, mnt):
    tools.mount(cache, own.ref, mnt)
    biggest = max(glob.glob(f"{own.folder}/data/docker/registry/v2/blobs/sha256/*/*/data"),
                  key=os.path.getsize)
    data = bytearray(open(biggest, "rb").read())
    # Everything but the table at the end, whose bytes were verified already.
    for i in range(0, len(data) * 3 // 4, 16):
        data[i] ^= 0x55
    open(biggest, "wb").write(data)
    names = [n for n, e in trees.with_toc_names(edge_truth).items() if "sha256" in e]
    failed = 0
    for name in names[::20] + [b"edge/text8m"]:
        try:
            got = trees.digest(os.path.join(os.fsencode(mnt), name))
        except OSError:
            failed += 1
        else:
            assert got == trees.with_toc_names(edge_truth)[name]["sha256"]
    assert failed > 0
    assert tools.status(mnt)["verify_failures"] > 0
    tools.umount(mnt)
"""Write the archive that `docker load` takes: a layer for each store path of the
closure, then one with what extraCommands made and links to the contents.

In the build's folder: closure (what exportReferencesGraph wrote), root/.
"""
import hashlib
import io
import json
import os
import tarfile


def closure():
    """The store paths, those that most others refer to first."""
    refs = {}
    with open("closure", encoding="utf-8") as f:
        lines = iter(f.read().splitlines())
    for path in lines:
        next(lines)  # its deriver
        refs[path] = [next(lines) for _ in range(int(next(lines)))]
    named = {p: sum(p in r for r in refs.values()) for p in refs
             if not p.endswith("-image-roots")}
    return sorted(named, key=lambda p: (-named[p], p))


def owned(member):
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mtime = 1
    return member


def add_tree(tar, path, name):
    """In sorted order, so that the same files give the same bytes."""
    tar.add(path, arcname=name, recursive=False, filter=owned)
    if os.path.isdir(path) and not os.path.islink(path):
        for entry in sorted(os.listdir(path)):
            add_tree(tar, f"{path}/{entry}", f"{name}/{entry}")


def directory(tar, name):
    member = tarfile.TarInfo(name)
    member.type = tarfile.DIRTYPE
    member.mode = 0o755
    tar.addfile(owned(member))


def archive(fill):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as tar:
        fill(tar)
    return data.getvalue()


def store_layer(path):
    def fill(tar):
        directory(tar, "nix")
        directory(tar, "nix/store")
        add_tree(tar, path, path.lstrip("/"))
    return archive(fill)


def top_layer(contents):
    def fill(tar):
        for entry in sorted(os.listdir("root")):
            add_tree(tar, f"root/{entry}", entry)
        for path in contents:
            for folder in sorted(os.listdir(path)):
                directory(tar, folder)
                for entry in sorted(os.listdir(f"{path}/{folder}")):
                    member = tarfile.TarInfo(f"{folder}/{entry}")
                    member.type = tarfile.SYMTYPE
                    member.linkname = f"{path}/{folder}/{entry}"
                    tar.addfile(owned(member))
    return archive(fill)


def main():
    spec = json.loads(os.environ["spec"])
    layers = [store_layer(p) for p in closure()]
    layers.append(top_layer(os.environ["contents"].split()))
    digests = [hashlib.sha256(data).hexdigest() for data in layers]
    config = json.dumps({
        "created": "1970-01-01T00:00:01Z",
        "architecture": spec["architecture"],
        "os": "linux",
        "config": spec["config"],
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + d for d in digests]},
    }, sort_keys=True).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{
        "Config": config_name,
        "RepoTags": [f"{spec['name']}:{spec['tag']}"],
        "Layers": [f"{d}/layer.tar" for d in digests],
    }]).encode()

    def fill(tar):
        files = [(f"{d}/layer.tar", data) for d, data in zip(digests, layers)]
        for name, data in [*files, (config_name, config), ("manifest.json", manifest)]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(owned(member), io.BytesIO(data))
    with open(os.environ["out"], "wb") as out:
        out.write(archive(fill))


main()

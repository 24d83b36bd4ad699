"""Package, container, flake and module, with real Nix and without nixpkgs."""
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile

import pytest
import yaml

from conftest import ROOT


def nix_files():
    return sorted(os.path.relpath(os.path.join(d, f), ROOT)
                  for d, _, names in os.walk(f"{ROOT}/nix") for f in names if f.endswith(".nix"))


def read(path):
    with open(f"{ROOT}/{path}", encoding="utf-8") as f:
        return f.read()


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


# ---- evaluation ----

@pytest.mark.parametrize("path", nix_files())
def test_file_parses(nix, path):
    nix.run("nix-instantiate", "--parse", path)


def test_the_lock_pins_nixpkgs_and_nothing_else(nix):
    locks = json.loads(nix.run("nix", "flake", "metadata", "--json", "./nix"))["locks"]
    assert set(locks["nodes"]) == {"root", "nixpkgs"}
    pin = locks["nodes"]["nixpkgs"]["locked"]
    assert re.fullmatch("[0-9a-f]{40}", pin["rev"])
    assert pin["narHash"].startswith("sha256-")


def test_flake_has_what_the_readme_says(nix):
    shown = json.loads(nix.flake("flake show --json"))
    for system in ("x86_64-linux", "aarch64-linux"):
        assert set(shown["packages"][system]) == {"default", "sluice", "container"}
        assert set(shown["devShells"][system]) == {"default"}
        assert {"sluice", "container", "inspect"} <= set(shown["checks"][system])
    assert "default" in shown["overlays"]
    assert "default" in shown["nixosModules"]


def test_overlay_gives_the_package(nix, package):
    path = nix.run("nix-instantiate", "--eval", "--expr",
                   "let host = import ./nix/hostpkgs { }; in "
                   "((import ./nix/overlay.nix) (host // { inherit (host) callPackage; }) host)"
                   ".sluice.outPath")
    assert path.strip().strip('"') == package


def test_version_is_that_of_meson(nix):
    version = re.search(r"version: '([^']+)'", read("meson.build")).group(1)
    assert f'version = "{version}";' in read("nix/package.nix")


def test_only_what_the_build_reads_rebuilds_it(nix, folder, package):
    tree = f"{folder}/edited"
    shutil.copytree(nix.tree, tree, symlinks=True)

    def source():
        return nix.run("nix-instantiate", "--eval", "--expr",
                       "toString (import ./nix { pkgs = import ./nix/hostpkgs { }; }).sluice.src",
                       cwd=tree)
    before = source()
    for path in ("README.md", "nix/README.md", "tests/e2e/tools.py", "tests/nix/conftest.py"):
        with open(f"{tree}/{path}", "a", encoding="utf-8") as f:
            f.write("\n")
    assert source() == before
    with open(f"{tree}/loader/main.c", "a", encoding="utf-8") as f:
        f.write("\n")
    assert source() != before


def test_a_missing_dependency_is_noticed(nix, folder):
    tree = f"{folder}/broken"
    shutil.copytree(nix.tree, tree, symlinks=True)
    path = f"{tree}/nix/package.nix"
    with open(path, encoding="utf-8") as f:
        text = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace("    jansson\n", ""))
    p = nix.try_run("nix-build", "nix", "--arg", "pkgs", "import ./nix/hostpkgs { }",
                    "-A", "sluice", "--no-out-link", cwd=tree)
    assert p.returncode != 0
    assert 'Dependency "jansson" not found' in p.stderr


# ---- builds ----

def test_flake_check_passes(nix, package, archive):
    nix.flake("flake check")


def test_the_flake_builds_the_same_as_nix_build(nix, archive):
    path = nix.run("nix", "build", "./nix#container", "--no-link", "--json",
                   "--no-write-lock-file", "--override-input", "nixpkgs", "path:./nix/hostpkgs")
    assert nix.file(json.loads(path)[0]["outputs"]["out"]) == archive


def test_program_is_built_the_same_twice(nix, package):
    nix.build("sluice", "--check")


def test_container_is_built_the_same_twice(nix, archive):
    before = sha256(archive)
    nix.build("container", "--check")
    assert sha256(archive) == before


def test_closure_has_store_paths_only(nix, package):
    with open(nix.file(f"{package}/bin/sluice"), "rb") as f:
        text = f.read()
    assert not re.findall(rb"(?<![\w.])/(?:usr|lib|lib64|build)/[\w./-]+", text)
    out = subprocess.run(["readelf", "-dlW", nix.file(f"{package}/bin/sluice")],
                         check=True, capture_output=True, text=True).stdout
    paths = re.search(r"R(?:UN)?PATH\)\s.*\[(.*)\]", out).group(1).split(":")
    paths.append(re.search(r"interpreter: (.*)\]", out).group(1))
    assert all(p.startswith("/nix/store/") for p in paths), paths
    nix.run("nix-store", "--verify", "--check-contents")


def test_mount_helper_is_beside_the_program(nix, package):
    binary = nix.file(f"{package}/bin")
    assert set(os.listdir(binary)) == {"sluice", "mount.sluice"}
    assert os.path.samefile(f"{binary}/mount.sluice", f"{binary}/sluice")


# ---- the image ----

@pytest.fixture(scope="module")
def content(archive):
    """(config, names of all files, their bytes) of the image."""
    names, size = {}, 0
    with tarfile.open(archive) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))[0]
        config = json.load(tar.extractfile(manifest["Config"]))
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=tar.extractfile(layer)) as files:
                for m in files:
                    names["/" + m.name] = m
                    size += m.size
    return config, names, size


def test_image_is_small(content, archive):
    # nix/README.md says how small; this only stops it from growing unseen
    assert content[2] < 32 << 20
    assert os.path.getsize(archive) < 34 << 20


def test_image_has_the_program_and_no_shell(content):
    names = content[1]
    assert {"/bin/sluice", "/bin/mount.sluice"} == {n for n in names if n.startswith("/bin/")}
    base = {os.path.basename(n) for n in names}
    assert not base & {"sh", "bash", "dash", "ash", "busybox", "env", "fusermount3", "python3"}
    assert {n.split("/")[1] for n in names} == {"bin", "etc", "mnt", "nix", "run", "tmp", "var"}


def test_image_has_ca_certificates(content):
    config, names, _ = content
    env = dict(e.split("=", 1) for e in config["config"]["Env"])
    assert names[env["SSL_CERT_FILE"]].size > 100000


def test_image_says_what_it_is(content):
    config = content[0]
    assert config["os"] == "linux" and config["architecture"] in ("amd64", "arm64")
    assert config["config"]["StopSignal"] == "SIGTERM"
    assert config["config"]["Volumes"] == {"/var/cache/sluice": {}}
    labels = config["config"]["Labels"]
    for key in ("title", "description", "licenses", "version"):
        assert labels["org.opencontainers.image." + key]


def test_kubernetes_example_matches_the_image(content):
    objects = list(yaml.safe_load_all(read("nix/kubernetes.yaml")))
    pod = next(o for o in objects if o["kind"] == "DaemonSet")["spec"]["template"]["spec"]
    container, = pod["containers"]
    assert container["image"].endswith("/sluice:" + content[0]["config"]["Labels"][
        "org.opencontainers.image.version"])
    mounts = {m["name"]: m for m in container["volumeMounts"]}
    volumes = {v["name"]: v for v in pod["volumes"]}
    assert set(mounts) == set(volumes)
    assert mounts["mounts"]["mountPropagation"] == "Bidirectional"
    assert container["securityContext"]["privileged"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    target = container["args"][-1]
    assert os.path.dirname(target) == mounts["mounts"]["mountPath"]


# ---- the module ----

STUBS = """
let
  lib = (import ./nix/hostpkgs/lib.nix) // {
    mkEnableOption = text: { };
    mkOption = option: option;
    mkIf = cond: value: assert cond; value;
    literalExpression = text: text;
    mapAttrs' = f: set: builtins.listToAttrs (
      map (n: f n set.${n}) (builtins.attrNames set));
    nameValuePair = name: value: { inherit name value; };
    types = {
      str = "str"; path = "path"; package = "package";
      nullOr = t: t; listOf = t: t; attrsOf = t: t; submodule = m: m;
    };
  };
  utils = {
    escapeSystemdExecArg = builtins.toJSON;
    escapeSystemdExecArgs = args: lib.concatStringsSep " " (map builtins.toJSON args);
  };
  program = { outPath = "/usr"; meta.mainProgram = "true"; };
  module = (import ./nix/module.nix) {
    inherit lib utils;
    pkgs = { coreutils = "/usr"; };
    config.services.sluice = {
      enable = true;
      package = program;
      cacheDir = "/var/cache/sluice";
      mounts.python = {
        image = "registry.example/team/python:3.11";
        mountPoint = "/srv/python";
        authFile = "/etc/auth.json";
        options = [ "allow_other" "dev" ];
        extraArgs = [ "--plain-http" ];
      };
    };
  };
in module.config.systemd.services.sluice-python
"""

# Each of these gives a unit a mount namespace of its own: systemd.exec(5).
HIDES_MOUNTS = {
    "BindPaths", "BindReadOnlyPaths", "DynamicUser", "InaccessiblePaths", "MountAPIVFS",
    "PrivateDevices", "PrivateIPC", "PrivateMounts", "PrivateTmp", "ProtectControlGroups",
    "ProtectHome", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables",
    "ProtectProc", "ProtectSystem", "ReadOnlyPaths", "ReadWritePaths", "RootDirectory",
    "RootImage", "TemporaryFileSystem",
}


def unit_text(service):
    lines = ["[Unit]", "Description=" + service["description"], "[Service]"]
    for key, value in service["serviceConfig"].items():
        for v in value if isinstance(value, list) else [value]:
            lines.append(f"{key}={str(v).lower() if isinstance(v, bool) else v}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def service(nix):
    return json.loads(nix.run("nix-instantiate", "--eval", "--strict", "--json", "--expr", STUBS))


def test_unit_is_accepted_by_systemd(service, tmp_path):
    path = tmp_path / "sluice-python.service"
    path.write_text(unit_text(service))
    p = subprocess.run(["systemd-analyze", "verify", "--man=no", path],
                       capture_output=True, text=True, check=False)
    assert p.returncode == 0 and "sluice-python" not in p.stderr, p.stderr


def test_unit_keeps_mount_propagation(service):
    assert not HIDES_MOUNTS & set(service["serviceConfig"])


def test_unit_is_hardened(service, tmp_path):
    path = tmp_path / "sluice-python.service"
    path.write_text(unit_text(service))
    p = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager",
                        "--threshold=60", path], capture_output=True, text=True, check=False)
    assert p.returncode == 0, p.stdout


def test_unit_runs_what_the_command_line_takes(service):
    assert service["serviceConfig"]["ExecStart"].replace('"', "").split() == [
        "/usr/bin/true", "mount", "-f", "--cache", "/var/cache/sluice",
        "--authfile", "/etc/auth.json", "-o", "allow_other,dev", "--plain-http",
        "registry.example/team/python:3.11", "/srv/python"]


def test_script_of_the_vm_test_compiles(nix):
    text = nix.run("nix-instantiate", "--eval", "--strict", "--json", "--expr",
                   "(import ./nix/tests/vm.nix { testers.runNixOSTest = x: x; "
                   'skopeo = "skopeo"; sluice = "sluice"; }).testScript')
    compile(json.loads(text), "testScript", "exec")

"""Running the program and its surroundings."""
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

BIN = os.environ.get("SLUICE_BIN", "build/main/loader/sluice")
# Sanitizer builds are several times slower.
TIMEOUT = 120
# What tests mount by that do not say; the fixtures engine and transport change
# them.
DRIVER = "fuse"
TRANSPORT = "auto"


def free_port():
    """A port that nobody listens on at this moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port, process=None, seconds=20):
    """Until somebody accepts on port."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process is None or process.poll() is None, "the server ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"nobody listens on port {port}")


def wait_for(condition, what, seconds=60):
    """Until condition() is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError(what)


class Server:
    """A process that serves a port; stopped at the end of its block."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.process = None
        os.makedirs(folder, exist_ok=True)

    def command(self):
        raise NotImplementedError

    def start(self):
        with open(f"{self.folder}/log", "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        wait_port(self.port, self.process)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def log(self):
        with open(f"{self.folder}/log", encoding="utf-8", errors="replace") as f:
            return f.read()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.stop()


class Registry(Server):
    """docker-registry; htpasswd is "user:password" lines made by htpasswd -B,
    proxy_of the host of a registry that it fetches from, more lines of its
    configuration."""

    def __init__(self, folder, htpasswd=None, proxy_of=None, more=""):
        super().__init__(folder)
        self.htpasswd = htpasswd
        self.proxy_of = proxy_of
        self.more = more

    def command(self):
        auth = self.more
        if self.htpasswd:
            with open(f"{self.folder}/htpasswd", "w", encoding="utf-8") as f:
                f.write(self.htpasswd)
            auth += f"auth: {{htpasswd: {{realm: test, path: {self.folder}/htpasswd}}}}\n"
        if self.proxy_of:
            auth += f"proxy: {{remoteurl: 'http://{self.proxy_of}'}}\n"
        with open(f"{self.folder}/config.yml", "w", encoding="utf-8") as f:
            f.write("version: 0.1\nlog: {level: info}\n"
                    f"storage: {{filesystem: {{rootdirectory: {self.folder}/data}}}}\n"
                    f"http: {{addr: {self.host}}}\n" + auth)
        return ["docker-registry", "serve", f"{self.folder}/config.yml"]


class Nginx(Server):
    """nginx serving the files below a folder, or as site (text) says."""

    def __init__(self, folder, root=None, site=None):
        super().__init__(folder)
        self.site = site or f"root {root};"
        self.more = ""

    def command(self):
        with open(f"{self.folder}/nginx.conf", "w", encoding="utf-8") as f:
            f.write(f"daemon off; master_process off; pid {self.folder}/pid;"
                    f"error_log {self.folder}/error.log;"
                    "events {} http { access_log " + f"{self.folder}/access.log;"
                    f"client_body_temp_path {self.folder}/b; proxy_temp_path {self.folder}/p;"
                    f"fastcgi_temp_path {self.folder}/f; uwsgi_temp_path {self.folder}/u;"
                    f"scgi_temp_path {self.folder}/s;"
                    f"{self.more} server {{ listen {self.host}; {self.site} }} }}")
        return ["nginx", "-e", f"{self.folder}/error.log", "-c", f"{self.folder}/nginx.conf"]


def layout_ref(path):
    """"path:tag" of the only image of a layout."""
    with open(f"{path}/index.json", encoding="utf-8") as f:
        entry = json.load(f)["manifests"][0]
    return f"{path}:{entry['annotations']['org.opencontainers.image.ref.name']}"


def skopeo_copy(src, dst, *args):
    """Copy an image as it is, digests kept."""
    if src.startswith("oci:"):
        src = "oci:" + layout_ref(src[4:])
    subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests",
                    "--src-tls-verify=false", "--dest-tls-verify=false", *args, src, dst], check=True)


def push_chunked(layout, ref):
    """Push the image "1" of a layout; skopeo makes its layers zstd:chunked."""
    subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false",
                    "--dest-compress", "--dest-compress-format", "zstd:chunked",
                    f"oci:{layout}:1", f"docker://{ref}"], check=True)


def sluice(*args, check=True, env=None, **kw):
    """Run the program; gives the completed process, text mode."""
    p = subprocess.run([BIN, *map(str, args)], capture_output=True, text=True,
                       timeout=TIMEOUT, env={**os.environ, **(env or {})}, check=False, **kw)
    if check:
        assert p.returncode == 0, f"sluice {args}: {p.returncode}\n{p.stdout}{p.stderr}"
    return p


def mount(cache, image, mnt, *args, **kw):
    """sluice mount; stdout must stay empty."""
    if "--driver" not in args:
        args = ("--driver", DRIVER, *args)
    if TRANSPORT != "auto":
        args = ("--transport", TRANSPORT, *args)
    p = sluice("mount", "--cache", cache, *args, image, mnt, **kw)
    assert p.stdout == ""
    return p


def umount(mnt, *args):
    """sluice umount; afterwards nothing is mounted there."""
    sluice("umount", *args, mnt)
    assert not os.path.ismount(mnt)


def status(mnt):
    """status --json as an object."""
    return json.loads(sluice("status", "--json", mnt).stdout)


def pid_of(mnt):
    """The daemon behind a mount."""
    return status(mnt)["pid"]


def kill(pid, sig=signal.SIGKILL):
    """Kill and wait until the process is gone."""
    os.kill(pid, sig)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}") or state(pid) == "Z",
             f"process {pid} does not end")


def state(pid):
    """The letter that ps shows; "" when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return ""


def one_sentence(p, code):
    """The failure contract: that exit code, one line on stderr, stdout empty."""
    lines = p.stderr.strip().splitlines()
    assert p.returncode == code, f"{p.returncode}: {p.stderr}"
    assert p.stdout == ""
    assert len(lines) == 1, p.stderr
    assert lines[0].startswith("sluice: ")
    assert not lines[0].endswith(".")
    return lines[0]


def has_uring():
    """Whether the ring works here, asked of the program itself."""
    p = sluice("--version", check=False)
    if re.search(r"io_uring: no", p.stdout):
        return False
    try:
        with open("/proc/sys/kernel/io_uring_disabled", encoding="utf-8") as f:
            return f.read().strip() == "0"
    except OSError:
        return True


def has_erofs():
    """Whether the kernel's EROFS mounts files: Linux 6.12."""
    return tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 12)


URING_SETTING = "/sys/module/fuse/parameters/enable_uring"


@contextlib.contextmanager
def fuse_over_uring():
    """Mount over io_uring meanwhile: the kernel's setting is switched on and put
    back; a lock on its file keeps others from doing that at the same time."""
    global TRANSPORT
    with open(URING_SETTING, "r+", encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        before = os.pread(f.fileno(), 1, 0)
        os.pwrite(f.fileno(), b"Y", 0)
        TRANSPORT = "uring"
        try:
            yield
        finally:
            TRANSPORT = "auto"
            os.pwrite(f.fileno(), before, 0)


def copy_tree(src, dst):
    """A private, writable copy."""
    shutil.copytree(src, dst, symlinks=True)
    return dst

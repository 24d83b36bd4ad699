"""The gates over the source text: each takes files and gives complaints.

A file is (path, text); a complaint is one line "path:line: what".
"""
import re
import subprocess

LAYERS = ["runtime/base", "runtime", "blobcache", "loader", "tests"]
MAX_FILE_LINES = 600
MAX_TEST_LINES = 720
MAX_FUNCTION_LINES = 100

BANNED = {
    r"\b(strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|gets|alloca|strerror|usleep|sleep)\s*\(":
        "banned function",
    r"(?<![\w.>])signal\s*\(": "use sigaction or signalfd",
    r"\bexit\s*\(": "exit outside main.c",
    r"(?<![\w.>])(malloc|calloc|realloc|free|strdup|strndup|asprintf)\s*\(":
        "allocation outside mem.c",
}
ALLOWED = {
    "exit outside main.c": ("loader/main.c",),
    "allocation outside mem.c": ("runtime/base/mem.c",),
}


def layer_of(path):
    """The layer that a path from the source root belongs to."""
    for name in sorted(LAYERS, key=len, reverse=True):
        if path.startswith(name + "/"):
            return name
    return None


def include_directions(files):
    """No file includes from a layer above its own."""
    for path, text in files:
        mine = layer_of(path)
        for n, line in enumerate(text.splitlines(), 1):
            m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not m:
                continue
            theirs = layer_of(m.group(1))
            if theirs is None:
                yield f"{path}:{n}: include not written from the source root"
            elif LAYERS.index(theirs) > LAYERS.index(mine):
                yield f"{path}:{n}: {mine} includes from {theirs}"


def without_comments(text):
    """The text with comments and strings blanked, lines kept."""
    def blank(m):
        return re.sub(r"[^\n]", " ", m.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'',
                  blank, text, flags=re.S)


def sizes(files):
    """Files and functions stay short."""
    for path, text in files:
        lines = text.splitlines()
        limit = MAX_TEST_LINES if path.startswith("tests/") else MAX_FILE_LINES
        if len(lines) > limit:
            yield f"{path}:1: {len(lines)} lines, at most {limit}"
        start = None
        for n, line in enumerate(without_comments(text).splitlines(), 1):
            if line == "{":
                start = n
            elif line.startswith("}") and start:
                if n - start > MAX_FUNCTION_LINES:
                    yield f"{path}:{start}: function of {n - start} lines"
                start = None


def banned(files):
    """Functions that are not used."""
    for path, text in files:
        if path.startswith("tests/"):
            continue
        for n, line in enumerate(without_comments(text).splitlines(), 1):
            for pattern, why in BANNED.items():
                if path in ALLOWED.get(why, ()):
                    continue
                if re.search(pattern, line):
                    yield f"{path}:{n}: {why}: {line.strip()}"
            if re.search(r"(?<![\w.>])open(at)?\s*\(", line) and \
                    not path.startswith("tests/"):
                rest = "\n".join(without_comments(text).splitlines()[n - 1:n + 3])
                if "O_CLOEXEC" not in rest.split(";")[0]:
                    yield f"{path}:{n}: open without O_CLOEXEC"


def heads(files):
    """Each file says its licence and what it is for."""
    for path, text in files:
        lines = text.splitlines()
        if not lines or lines[0] != "/* SPDX-License-Identifier: Apache-2.0 */":
            yield f"{path}:1: no licence line"
        elif len(lines) < 2 or not lines[1].startswith("/*"):
            yield f"{path}:2: does not begin with what it is for"
        if path.endswith(".h") and "#pragma once" not in text:
            yield f"{path}:1: no #pragma once"


def prototypes(files):
    """Each prototype in a header has a comment above it, or stands in a block
    of prototypes that one comment covers."""
    for path, text in files:
        if not path.endswith(".h") or path.startswith("tests/"):
            continue
        covered = False
        depth = 0
        for n, line in enumerate(text.splitlines(), 1):
            clean = without_comments(line) if "*/" not in line else ""
            if re.match(r"\s*(/\*|\*|//)", line) or "*/" in line:
                covered = True
            elif not line.strip():
                covered = False
            elif depth == 0 and re.match(
                    r"(?!static|typedef|struct \w+ \{|enum|union|#)[\w].*\b\w+\($|"
                    r"(?!static|typedef|#)[A-Za-z_][\w \*]*\b\w+\([^;{]*[;,]?$", line) \
                    and "=" not in line and not covered:
                yield f"{path}:{n}: prototype without a comment: {line.strip()}"
            depth += clean.count("{") - clean.count("}")


def formatting(paths):
    """clang-format would change nothing."""
    out = subprocess.run(["clang-format", "--dry-run", "-Werror", *paths],
                         capture_output=True, text=True, check=False)
    for line in out.stderr.splitlines():
        if ": error:" in line:
            yield line

"""Every gate over the tree, and every gate against an example it must refuse."""
import os
import subprocess

import pytest

import gates

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def tree():
    names = []
    for top in ("runtime", "blobcache", "loader", "tests"):
        for folder, _, files in os.walk(os.path.join(ROOT, top)):
            names += [os.path.relpath(os.path.join(folder, f), ROOT)
                      for f in files if f.endswith((".c", ".h"))]
    result = []
    for name in sorted(names):
        with open(os.path.join(ROOT, name), encoding="utf-8") as f:
            result.append((name, f.read()))
    assert len(result) > 20
    return result


def complain(found):
    found = list(found)
    if found:
        pytest.fail("\n".join(found), pytrace=False)


GATES = [gates.include_directions, gates.sizes, gates.banned, gates.heads, gates.prototypes]


@pytest.mark.parametrize("gate", GATES, ids=lambda g: g.__name__)
def test_tree_passes(gate):
    complain(gate(tree()))


def test_tree_is_formatted():
    complain(gates.formatting([os.path.join(ROOT, p) for p, _ in tree()]))


HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n/* What it is for. */\n"
REFUSED = [
    (gates.include_directions, "runtime/x.c", '#include "loader/fs.h"\n'),
    (gates.include_directions, "blobcache/x.c", '#include "tree.h"\n'),
    (gates.sizes, "runtime/x.c", "\n" * 601),
    (gates.sizes, "runtime/x.c", "void f(void)\n{\n" + "\tg();\n" * 101 + "}\n"),
    (gates.banned, "runtime/x.c", "\tstrcpy(a, b);\n"),
    (gates.banned, "runtime/x.c", "\tp = malloc(4);\n"),
    (gates.banned, "runtime/x.c", "\tfd = open(path, O_RDONLY);\n"),
    (gates.heads, "runtime/x.c", "#include <stdio.h>\n"),
    (gates.heads, "runtime/x.h", HEAD),
    (gates.prototypes, "runtime/x.h", HEAD + "#pragma once\n\nint f(int a);\n"),
]


@pytest.mark.parametrize("gate,path,text", REFUSED)
def test_gate_refuses(gate, path, text):
    assert list(gate([(path, text)])) != []


def test_formatting_refuses(tmp_path):
    bad = tmp_path / "x.c"
    bad.write_text("int  f( void ) {return 1 ;}\n")
    (tmp_path / ".clang-format").write_text(
        open(os.path.join(ROOT, ".clang-format"), encoding="utf-8").read())
    assert list(gates.formatting([str(bad)])) != []


def test_nothing_else_at_the_top():
    allowed = {"loader", "runtime", "blobcache", "nix", "tests", "meson.build",
               "meson_options.txt", "README.md", "LICENSE"}
    out = subprocess.run(["git", "-C", ROOT, "ls-tree", "--name-only", "HEAD"],
                         capture_output=True, text=True, check=False)
    if out.returncode:
        pytest.skip("not a git checkout")
    top = {n for n in out.stdout.split() if not n.startswith(".")}
    assert top <= allowed

#!/bin/sh
# The example of runtime/README.md, as another program would have it: sluice as
# a Meson subproject, only runtime/ built and linked. Argument: the source tree.
set -eu
src=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/subprojects"
ln -s "$src" "$dir/subprojects/sluice"
awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' "$src/runtime/README.md" >"$dir/lines.c"
{
	echo "project('lines', 'c')"
	sed -n "s/^    \(runtime_dep = .*\)/\1/p; s/^    \(executable('lines'.*\)/\1/p" "$src/runtime/README.md"
} >"$dir/meson.build"
cd "$dir"
meson setup build . >setup.log 2>&1 || { cat setup.log; exit 1; }
ninja -C build lines >ninja.log 2>&1 || { cat ninja.log; exit 1; }
seq 100000 >input
test "$(build/lines <input)" = 100000
test "$(printf 'a\nb\n' | build/lines)" = 2
if build/lines </ 2>/dev/null; then
	echo "a directory is no error"
	exit 1
fi
# no library of the other parts is needed for it
if ldd build/lines | grep -E 'curl|fuse|zstd'; then
	exit 1
fi

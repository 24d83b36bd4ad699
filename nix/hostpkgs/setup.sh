# The phases of stdenv.mkDerivation with meson's hook, as ../package.nix uses them.
set -euo pipefail
export HOME=$TMPDIR SOURCE_DATE_EPOCH=1 LC_ALL=C.UTF-8 CC=gcc
export PKG_CONFIG_LIBDIR=
for p in $nativeBuildInputs; do PATH=$p/bin:$PATH; done

# what cc-wrapper of nixpkgs does: loader and run path come from the store.
# libgcc_s is loaded by name, for thread cancellation, from the program's run path.
LDFLAGS="-Wl,-dynamic-linker,$(readlink -f "$glibc/lib/loader")"
LDFLAGS+=" -Wl,-rpath,$glibc/lib -Wl,--push-state,--no-as-needed,-lgcc_s,--pop-state"
for p in $buildInputs; do
	PKG_CONFIG_LIBDIR=$PKG_CONFIG_LIBDIR:$p/lib/pkgconfig
	LDFLAGS+=" -Wl,-rpath,$p/lib"
done
export LDFLAGS

cp -r "$src" source
chmod -R u+w source
cd source
meson setup build --prefix="$out" --libdir=lib --sbindir=sbin \
	--buildtype="$mesonBuildType" $mesonFlags
ninja -C build -j "$NIX_BUILD_CORES"
if [ -n "$doCheck" ]; then
	meson test -C build --no-rebuild --print-errorlogs $mesonCheckFlags
fi
meson install -C build --no-rebuild --quiet

# fixup: sbin goes into bin; symbols for debuggers and unused run paths go
mv "$out"/sbin/* "$out/bin/"
rmdir "$out/sbin"
ln -s bin "$out/sbin"
find "$out/bin" -type f -exec strip -S {} + -exec patchelf --shrink-rpath {} \;
exit 0

# Copy headers, libraries and pkg-config files of Debian's $package to $out, with
# all that they need at run time besides $deps and the C library, so that the
# closure of what is linked with it has store paths only.
set -euo pipefail
arch=$(gcc -print-multiarch)
mkdir -p "$out/lib"
dpkg-query -L "$package" >files || {
	echo "hostpkgs: Debian's package $package is not installed" >&2
	exit 1
}

rpath=$out/lib
for dep in $deps $glibc; do rpath=$rpath:$dep/lib; done

present() { # NAME: is the library in the run path already?
	local dir
	for dir in ${rpath//:/ }; do [ -e "$dir/$1" ] && return 0; done
	return 1
}

add_library() { # FILE NAME
	cp -L "$1" "$out/lib/$2"
	chmod u+w "$out/lib/$2"
	patchelf --set-rpath "$rpath" "$out/lib/$2"
}

while read -r f; do
	[ ! -d "$f" ] || continue
	case $f in
	/usr/include/*)
		to=$out/include/${f#/usr/include/}
		to=${to/#$out\/include\/$arch\//$out\/include\/}
		mkdir -p "${to%/*}"
		cp -L "$f" "$to"
		;;
	/usr/lib/"$arch"/*.so)
		name=$(patchelf --print-soname "$f")
		add_library "$f" "$name"
		[ "$name" = "${f##*/}" ] || ln -s "$name" "$out/lib/${f##*/}"
		;;
	*/pkgconfig/*.pc)
		mkdir -p "$out/lib/pkgconfig"
		sed -e "s|/usr/lib/$arch|$out/lib|g; s|/usr/include|$out/include|g" \
			-e "s|^prefix=/usr|prefix=$out|; s|/lib/$arch|/lib|g" \
			-e "s|/include/$arch|/include|g" -e "s|^libdir=/usr/lib$|libdir=$out/lib|" \
			-e '/^Requires.private/d; /^Libs.private/d' "$f" \
			>"$out/lib/pkgconfig/${f##*/}"
		;;
	esac
done <files

for f in "$out"/lib/*.so; do
	ldd "$f" | sed -n 's|^\s*\(\S*\) => \(/\S*\) .*|\1 \2|p' >needed
	while read -r name path; do
		present "$name" || add_library "$path" "$name"
	done <needed
done
exit 0

# What the commands of tests/ need from Debian, and how they get it.
# Sourced by tests/run and tests/demo; needs bash.

build_packages=(
	gcc libc6-dev meson ninja-build pkg-config
	libcurl4-openssl-dev libdeflate-dev libfuse3-dev libjansson-dev
	liblz4-dev libssl-dev liburing-dev libzstd-dev zlib1g-dev
	fuse3
)
test_packages=(
	libcmocka-dev libseccomp-dev clang clang-format libclang-rt-14-dev
	python3 python3-pytest
	docker-registry nginx-light skopeo umoci
	podman runc erofs-utils zstd jq openssl apache2-utils attr procps
	iproute2 util-linux
)
nix_packages=(
	nix-bin patchelf git binutils ca-certificates podman runc
	docker-registry skopeo python3-yaml systemd
)
bench_packages=(fio squashfs-tools squashfuse)
demo_packages=(docker-registry skopeo mmdebstrap python3 jq)

# need PACKAGE...: install what is missing; nothing is asked of the network
# when nothing is.
need() {
	local missing=() p
	for p in "$@"; do
		dpkg-query -W -f '${Status}' "$p" 2>/dev/null |
			grep -q '^install ok installed' || missing+=("$p")
	done
	[ ${#missing[@]} -eq 0 ] && return 0
	if [ "$(id -u)" -ne 0 ]; then
		echo "missing Debian packages (install them as root): ${missing[*]}" >&2
		return 1
	fi
	echo "installing ${missing[*]}" >&2
	{
		apt-get update -qq &&
			DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
				--no-install-recommends "${missing[@]}"
	} >/tmp/sluice-apt.$$ 2>&1 || {
		tail -n 30 /tmp/sluice-apt.$$ >&2
		rm -f /tmp/sluice-apt.$$
		echo "cannot install: ${missing[*]}" >&2
		return 1
	}
	rm -f /tmp/sluice-apt.$$
}

# build DIR [MESON OPTION...]: configure once, compile; says nothing if all is
# well.
build() {
	local dir=$1 log
	shift
	log=$(mktemp)
	{
		{ [ -f "$dir/build.ninja" ] || meson setup "$dir" "$@"; } &&
			ninja -C "$dir"
	} >"$log" 2>&1 || {
		tail -n 60 "$log" >&2
		rm -f "$log"
		echo "cannot build $dir" >&2
		return 1
	}
	rm -f "$log"
}

# Written for callPackage of nixpkgs; hostpkgs/ gives the same arguments offline.
{
  lib,
  stdenv,
  cmocka,
  curl,
  fuse3,
  jansson,
  libdeflate,
  liburing,
  lz4,
  meson,
  ninja,
  openssl,
  pkg-config,
  zlib,
  zstd,
}:

let
  fs = lib.fileset;
in
stdenv.mkDerivation (finalAttrs: {
  pname = "sluice";
  version = "0.1.0"; # as in meson.build

  # Only what the build reads: editing README.md or nix/ rebuilds nothing.
  src = fs.toSource {
    root = ../.;
    fileset = fs.unions [
      ../meson.build
      ../meson_options.txt
      ../blobcache
      ../loader
      ../runtime
      ../tests/meson.build
      ../tests/async
      ../tests/bench
      ../tests/fuzz
      ../tests/lib
      ../tests/samples/hostile
      ../tests/samples/rafs
      ../tests/unit
    ];
  };

  strictDeps = true;

  nativeBuildInputs = [
    meson
    ninja
    pkg-config
  ];

  buildInputs = [
    curl
    fuse3
    jansson
    libdeflate
    liburing
    lz4
    openssl
    zlib
    zstd
  ];

  checkInputs = [ cmocka ];

  mesonBuildType = "release";
  mesonFlags = [ (lib.mesonBool "tests" finalAttrs.finalPackage.doCheck) ];

  # The other suites mount and need root, which a sandbox has not.
  doCheck = true;
  mesonCheckFlags = [ "--suite=unit" ];

  meta = {
    description = "Mounts container images before they have been downloaded";
    license = lib.licenses.asl20;
    platforms = lib.platforms.linux;
    mainProgram = "sluice";
  };
})

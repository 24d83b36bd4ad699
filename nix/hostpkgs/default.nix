# The package set; see README.md. Not nixpkgs.
#
# The last act of a builder has to be the shell's own (`exit`): Nix kills one
# that has closed its output, as the tools of coreutils do before they end.
{
  system ? builtins.currentSystem,
}:
let
  lib = import ./lib.nix;

  derive =
    args:
    derivation (
      {
        inherit system;
        builder = "/bin/bash";
        PATH = "/usr/bin:/bin";
      }
      // args
    );

  runCommand =
    name: env: text:
    derive (
      env
      // {
        inherit name text;
        passAsFile = [ "text" ];
        args = [
          "-c"
          ''
            set -euo pipefail
            for p in ''${nativeBuildInputs:-}; do PATH=$p/bin:$PATH; done
            . "$textPath"
            exit 0
          ''
        ];
      }
    );

  tool =
    name:
    runCommand name { } ''
      mkdir -p $out/bin
      [ -x /usr/bin/${name} ]
      ln -s /usr/bin/${name} $out/bin/${name}
    '';

  # The C library that everything built here is linked to at run time.
  glibc = derive {
    name = "host-glibc";
    args = [ ./glibc.sh ];
  };

  # A library from its Debian package for developers, and what it needs besides
  # `deps` at run time.
  hostLib =
    pname: package: deps:
    derive {
      name = "host-${pname}";
      inherit package deps glibc;
      args = [ ./hostlib.sh ];
    };

  mkDerivation =
    f:
    let
      args = f { inherit finalPackage; };
      finalPackage =
        derive (
          removeAttrs args [
            "checkInputs"
            "meta"
            "strictDeps"
          ]
          // {
            name = "${args.pname}-${args.version}";
            inherit glibc;
            buildInputs = args.buildInputs ++ lib.optionals args.doCheck args.checkInputs;
            args = [ ./setup.sh ];
          }
        )
        // {
          inherit (args) buildInputs doCheck meta nativeBuildInputs version;
        };
    in
    finalPackage;

  set = rec {
    inherit lib runCommand;
    stdenv = {
      inherit mkDerivation;
    };

    meson = tool "meson";
    ninja = tool "ninja";
    pkg-config = tool "pkg-config";

    cmocka = hostLib "cmocka" "libcmocka-dev" [ ];
    curl = hostLib "curl" "libcurl4-openssl-dev" [
      openssl
      zlib
      zstd
    ];
    curlMinimal = lib.makeOverridable (_: curl) { };
    fuse3 = hostLib "fuse3" "libfuse3-dev" [ ];
    jansson = hostLib "jansson" "libjansson-dev" [ ];
    libdeflate = hostLib "libdeflate" "libdeflate-dev" [ ];
    liburing = hostLib "liburing" "liburing-dev" [ ];
    lz4 = hostLib "lz4" "liblz4-dev" [ ];
    openssl = hostLib "openssl" "libssl-dev" [ ];
    zlib = hostLib "zlib" "zlib1g-dev" [ ];
    zstd = hostLib "zstd" "libzstd-dev" [ ];

    cacert = runCommand "host-cacert" { } ''
      mkdir -p $out/etc/ssl/certs
      cat /usr/share/ca-certificates/mozilla/*.crt > $out/etc/ssl/certs/ca-bundle.crt
    '';

    buildEnv =
      {
        name,
        paths,
        pathsToLink,
      }:
      runCommand name { inherit paths pathsToLink; } ''
        for p in $paths; do
          for l in $pathsToLink; do
            mkdir -p $out$l
            ln -s $p$l/* $out$l/
          done
        done
      '';

    dockerTools = import ./docker.nix { inherit system lib derive; };

    mkShell =
      { inputsFrom }:
      runCommand "shell" {
        inputs = builtins.concatMap (p: p.buildInputs ++ p.nativeBuildInputs) inputsFrom;
      } "export > $out";

    callPackage = lib.callPackageWith set;
  };
in
set

# What `nix flake check` builds.
{ pkgs }:
let
  set = import ./default.nix { inherit pkgs; };
in
{
  inherit (set) sluice container;

  # a run of the program as it was installed, on an image by other tools
  inspect = pkgs.runCommand "sluice-inspect" { nativeBuildInputs = [ set.sluice ]; } ''
    sluice --version
    mkdir -m 700 cache
    sluice inspect --cache "$PWD/cache" \
      oci:${../tests/samples/oci/edge-zstdchunked}:latest > $out
    grep zstd:chunked $out
  '';
}
# needs NixOS
// pkgs.lib.optionalAttrs (pkgs ? testers.runNixOSTest) {
  vm = pkgs.callPackage ./tests/vm.nix { inherit (set) sluice; };
}

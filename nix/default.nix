# For nix-build and for other trees.
{
  pkgs ? import ./nixpkgs.nix,
}:
rec {
  sluice = pkgs.callPackage ./package.nix { };
  container = pkgs.callPackage ./container.nix { inherit sluice; };
}

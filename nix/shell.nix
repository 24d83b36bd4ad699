# What the build and the unit tests need.
{
  pkgs ? import ./nixpkgs.nix,
}:
pkgs.mkShell {
  inputsFrom = [ (import ./default.nix { inherit pkgs; }).sluice ];
}

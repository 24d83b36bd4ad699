{
  description = "Stand-in for nixpkgs, made of this machine's own packages; only for tests";

  outputs = _: {
    lib = import ./lib.nix;
    legacyPackages = (import ./lib.nix).genAttrs [
      "x86_64-linux"
      "aarch64-linux"
    ] (system: import ./default.nix { inherit system; });
  };
}

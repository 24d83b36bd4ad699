{
  description = "Mounts container images before they have been downloaded";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.11";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      eachSystem = f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      packages = eachSystem (
        pkgs:
        let
          set = import ./default.nix { inherit pkgs; };
        in
        {
          inherit (set) sluice container;
          default = set.sluice;
        }
      );
      overlays.default = import ./overlay.nix;
      nixosModules.default = import ./module.nix;
      devShells = eachSystem (pkgs: {
        default = import ./shell.nix { inherit pkgs; };
      });
      checks = eachSystem (pkgs: import ./checks.nix { inherit pkgs; });
    };
}

final: _prev: {
  sluice = final.callPackage ./package.nix { };
}

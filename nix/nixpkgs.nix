# The nixpkgs that the flake is locked to, without flakes.
let
  lock = (builtins.fromJSON (builtins.readFile ./flake.lock)).nodes.nixpkgs.locked;
in
import (fetchTarball {
  url = "https://github.com/${lock.owner}/${lock.repo}/archive/${lock.rev}.tar.gz";
  sha256 = lock.narHash;
}) { }

{
  system,
  lib,
  derive,
}:
{
  # The arguments of nixpkgs' function that ../container.nix gives.
  buildLayeredImage =
    {
      name,
      tag,
      compressor,
      contents,
      extraCommands,
      config,
    }:
    assert compressor == "none";
    derive {
      name = "${name}.tar";
      inherit contents extraCommands;
      # what the image says; its context makes the paths in it inputs
      spec = builtins.toJSON {
        inherit name tag config;
        architecture =
          {
            x86_64-linux = "amd64";
            aarch64-linux = "arm64";
          }
          .${system};
      };
      exportReferencesGraph = [
        "closure"
        # one path that refers to all that the image needs
        (derive {
          name = "image-roots";
          inherit contents;
          named = config.Entrypoint ++ config.Env;
          args = [
            "-c"
            ''echo "$contents $named" > $out; exit 0''
          ];
        })
      ];
      args = [
        "-c"
        ''
          set -e
          mkdir root
          (cd root; eval "$extraCommands")
          /usr/bin/python3 ${./image.py}
          exit 0
        ''
      ];
    };
}

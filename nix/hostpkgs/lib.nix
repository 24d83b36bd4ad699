# The functions of nixpkgs' lib that ../*.nix use, with the same meaning.
rec {
  inherit (builtins) concatStringsSep;

  optionals = cond: list: if cond then list else [ ];
  optionalAttrs = cond: set: if cond then set else { };

  genAttrs =
    names: f:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = f name;
      }) names
    );

  hasPrefix = prefix: s: builtins.substring 0 (builtins.stringLength prefix) s == prefix;

  getExe = p: "${p}/bin/${p.meta.mainProgram}";
  mesonBool = name: value: "-D${name}=${if value then "true" else "false"}";

  licenses.asl20.spdxId = "Apache-2.0";
  platforms.linux = [
    "x86_64-linux"
    "aarch64-linux"
  ];

  # A file set is a list of paths here; what is under one of them is in it.
  fileset = {
    unions = paths: paths;
    toSource =
      { root, fileset }:
      let
        wanted = map toString fileset;
        under = path: top: path == top || hasPrefix (top + "/") path;
        keep = path: type: builtins.any (w: under path w || type == "directory" && under w path) wanted;
      in
      assert builtins.all builtins.pathExists fileset;
      builtins.path {
        name = "source";
        path = root;
        filter = keep;
      };
  };

  makeOverridable =
    f: args:
    f args
    // {
      override = changed: makeOverridable f (args // changed);
    };

  callPackageWith =
    set: fn: args:
    let
      f = if builtins.isFunction fn then fn else import fn;
      wanted = builtins.functionArgs f;
      given = builtins.intersectAttrs wanted set // args;
      missing = builtins.filter (n: !wanted.${n} && !given ? ${n}) (builtins.attrNames wanted);
    in
    if missing == [ ] then
      makeOverridable f given
    else
      throw "hostpkgs has no ${concatStringsSep ", " missing}";
}

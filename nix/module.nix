# NixOS: images as mounts of their own, one unit for each.
{
  config,
  lib,
  pkgs,
  utils,
  ...
}:

let
  cfg = config.services.sluice;
  inherit (lib) mkOption types;

  mount = types.submodule {
    options = {
      image = mkOption {
        type = types.str;
        example = "registry.example/team/python:3.11";
        description = "The image: HOST/NAME[:TAG|@DIGEST], oci:PATH, or the path or URL of a RAFS bootstrap.";
      };
      mountPoint = mkOption {
        type = types.path;
        example = "/srv/python";
        description = "The directory where its files appear. It is made if it is missing.";
      };
      authFile = mkOption {
        type = types.nullOr types.path;
        default = null;
        description = "A file with credentials for registries, in the format of containers-auth.json(5).";
      };
      options = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "allow_other" ];
        description = "Mount options (-o).";
      };
      extraArgs = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "--plain-http" ];
        description = "More arguments of `sluice mount`.";
      };
    };
  };

  command =
    m:
    [
      (lib.getExe cfg.package)
      "mount"
      "-f"
      "--cache"
      cfg.cacheDir
    ]
    ++ lib.optionals (m.authFile != null) [
      "--authfile"
      m.authFile
    ]
    ++ lib.optionals (m.options != [ ]) [
      "-o"
      (lib.concatStringsSep "," m.options)
    ]
    ++ m.extraArgs
    ++ [
      m.image
      m.mountPoint
    ];

  unit = name: m: {
    description = "sluice mount of ${m.image}";
    wantedBy = [ "multi-user.target" ];
    wants = [ "network-online.target" ];
    after = [
      "network-online.target"
      "local-fs.target"
    ];
    # the registry may come up later than we do
    startLimitIntervalSec = 0;
    serviceConfig = {
      Type = "notify";
      # what is mounted there from before is refused by the program, with a reason
      ExecStartPre = "-${pkgs.coreutils}/bin/mkdir -p ${utils.escapeSystemdExecArg m.mountPoint}";
      ExecStart = utils.escapeSystemdExecArgs (command m);
      # after a crash: takes away its own dead mount and no other
      ExecStopPost = "-${lib.getExe cfg.package} umount -l ${utils.escapeSystemdExecArg m.mountPoint}";
      Restart = "on-failure";
      RestartSec = 5;
      TimeoutStartSec = "infinity";
      UMask = "0077";
      LimitNOFILE = 65536;

      # Nothing here may give the unit a mount namespace of its own (PrivateTmp,
      # ProtectSystem, ReadOnlyPaths and the like do): the mount would then be
      # seen by nobody else.
      CapabilityBoundingSet = [
        "CAP_SYS_ADMIN"
        "CAP_DAC_READ_SEARCH"
      ];
      DeviceAllow = [ "/dev/fuse rw" ];
      DevicePolicy = "closed";
      KeyringMode = "private";
      LockPersonality = true;
      MemoryDenyWriteExecute = true;
      NoNewPrivileges = true;
      RestrictAddressFamilies = [
        "AF_INET"
        "AF_INET6"
        "AF_NETLINK"
        "AF_UNIX"
      ];
      RestrictNamespaces = true;
      RestrictRealtime = true;
      RestrictSUIDSGID = true;
      SystemCallArchitectures = "native";
      # io_uring is in @system-service
      SystemCallFilter = [ "@system-service @mount" ];
      SystemCallErrorNumber = "EPERM";
    };
  };
in
{
  options.services.sluice = {
    enable = lib.mkEnableOption "mounts of container images by sluice";
    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.sluice";
      description = "The sluice package to run.";
    };
    cacheDir = mkOption {
      type = types.path;
      default = "/var/cache/sluice";
      description = "Where fetched bytes are kept. Made by the program, for root alone.";
    };
    mounts = mkOption {
      type = types.attrsOf mount;
      default = { };
      description = "The mounts, by name; NAME becomes the unit sluice-NAME.";
      example = lib.literalExpression ''
        {
          python = {
            image = "registry.example/team/python:3.11";
            mountPoint = "/srv/python";
          };
        }
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    boot.kernelModules = [ "fuse" ];
    # for mount -t sluice and /etc/fstab
    environment.systemPackages = [ cfg.package ];
    systemd.services = lib.mapAttrs' (
      name: m: lib.nameValuePair "sluice-${name}" (unit name m)
    ) cfg.mounts;
  };
}

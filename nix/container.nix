# An image with the program, its run-time closure and CA certificates. No shell,
# and no fusermount3: with CAP_SYS_ADMIN libfuse3 calls mount(2) itself.
{
  lib,
  buildEnv,
  cacert,
  curlMinimal,
  dockerTools,
  sluice,
  tag ? sluice.version,
}:

let
  # Registries are asked by basic or bearer authentication, over HTTP only.
  program = sluice.override {
    curl = curlMinimal.override {
      gssSupport = false;
      scpSupport = false;
    };
  };
in
dockerTools.buildLayeredImage {
  name = "sluice";
  inherit tag;
  # podman before 4.4 cannot load an archive compressed with gzip
  compressor = "none";

  contents = [
    (buildEnv {
      name = "sluice-root";
      paths = [ program ];
      pathsToLink = [ "/bin" ];
    })
  ];

  extraCommands = ''
    mkdir -p etc mnt run tmp var/cache/sluice
    chmod 1777 tmp
    chmod 700 var/cache/sluice
    echo 'hosts: files dns' > etc/nsswitch.conf
  '';

  config = {
    Entrypoint = [ (lib.getExe program) ];
    Cmd = [ "--help" ];
    Env = [
      "PATH=/bin"
      "SSL_CERT_FILE=${cacert}/etc/ssl/certs/ca-bundle.crt"
    ];
    StopSignal = "SIGTERM";
    Volumes."/var/cache/sluice" = { };
    Labels = {
      "org.opencontainers.image.title" = "sluice";
      "org.opencontainers.image.description" = program.meta.description;
      "org.opencontainers.image.licenses" = program.meta.license.spdxId;
      "org.opencontainers.image.version" = program.version;
    };
  };
}

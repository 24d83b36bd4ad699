# The module in a virtual machine, against a registry. Needs NixOS, so hostpkgs
# cannot build it; only its script is compiled offline.
{
  testers,
  skopeo,
  sluice,
}:

testers.runNixOSTest {
  name = "sluice";

  nodes.machine =
    { lib, ... }:
    {
      imports = [ ../module.nix ];
      environment.systemPackages = [ skopeo ];
      services.dockerRegistry.enable = true;
      services.sluice = {
        enable = true;
        package = sluice;
        mounts.edge = {
          image = "127.0.0.1:5000/edge:1";
          mountPoint = "/mnt/edge";
        };
      };
      # started by the script, once the registry has the image
      systemd.services.sluice-edge.wantedBy = lib.mkForce [ ];
    };

  testScript = ''
    import json

    machine.wait_for_unit("docker-registry.service")
    machine.wait_for_open_port(5000)
    machine.succeed(
        "skopeo --insecure-policy copy --preserve-digests --dest-tls-verify=false "
        "oci:${../../tests/samples/oci/edge-zstdchunked}:latest docker://127.0.0.1:5000/edge:1"
    )

    with subtest("the unit is up when the files are there"):
        machine.succeed("systemctl start sluice-edge")
        machine.succeed("find /mnt/edge -type f -exec cat {} + > /dev/null")
        status = json.loads(machine.succeed("sluice status --json /mnt/edge"))
        assert status["read_errors"] == 0, status

    with subtest("io_uring passes the unit's system call filter"):
        assert status["io_backend"] == "uring", status["io_backend_reason"]

    with subtest("a killed daemon leaves nothing and comes back"):
        machine.succeed("systemctl kill -s KILL sluice-edge")
        machine.wait_until_succeeds("sluice status /mnt/edge")
        machine.succeed("ls /mnt/edge")

    with subtest("a stop unmounts"):
        machine.succeed("systemctl stop sluice-edge")
        machine.fail("mountpoint -q /mnt/edge")

    with subtest("mount(8) finds the helper"):
        machine.succeed("mount -t sluice 127.0.0.1:5000/edge:1 /mnt/edge")
        machine.succeed("ls /mnt/edge")
        machine.succeed("umount /mnt/edge")
  '';
}

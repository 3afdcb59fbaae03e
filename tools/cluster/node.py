"""One node, inside its own mount and network namespaces: containerd, kubelet, kube-proxy."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from cluster.addresses import DNS, NODES, PODS, Addresses
from cluster.api import Api
from cluster.controlplane import connect, run
from cluster.errors import ClusterError
from cluster.layout import Layout, Plan
from cluster.supervisor import Supervisor, wait_until

__all__ = ["HIDDEN", "PAUSE_IMAGE", "main"]

PAUSE_IMAGE = "docker.io/taskbridge/pause:1"
HIDDEN = ("/run", "/var/lib", "/var/log")
"""Folders of the machine that a node covers with its own."""

_TIMEOUT = 120.0
_CGROUPS = Path("/sys/fs/cgroup")
_PLUGINS = Path("/usr/lib/cni")
_ANNOUNCE = Path(__file__).with_name("announce.py")
_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1_000_000,
    "kernel/keys/root_maxbytes": 25_000_000,
}
"""What a kubelet wants of the kernel, and would set for the whole machine."""


def _own_run(nodes: Path) -> None:
    """Give the node a /run of its own, in which the file system with the nodes' files stays where it is."""
    draft = nodes.with_name("run")
    draft.mkdir(exist_ok=True)
    run(f"mount -t tmpfs -o mode=755 tmpfs {draft}")
    kept = draft / nodes.relative_to("/run")
    kept.mkdir(parents=True)
    run(f"mount --bind {nodes} {kept}")
    run(f"mount --no-mtab --move {draft} /run")


def _cover(folder: Path) -> None:
    """Let what the node writes to folders of the machine go to `folder`."""
    for name, hidden in (("var-lib", "/var/lib"), ("var-log", "/var/log")):
        upper, work = folder / name, folder / f"{name}.work"
        for path in (upper, work):
            path.mkdir()
        run(f"mount -t overlay -o lowerdir={hidden},upperdir={upper},workdir={work} overlay {hidden}")
    for name, value in _SETTINGS.items():
        # A kubelet that reads here what it wants does not write; the machine keeps its own settings.
        wanted = folder / name.replace("/", ".")
        wanted.write_text(f"{value}\n")
        if (setting := Path("/proc/sys") / name).exists():
            run(f"mount --bind {wanted} {setting}")


def _make_cgroup(name: str) -> None:
    if (_CGROUPS / "cgroup.controllers").exists():
        controllers = (_CGROUPS / "cgroup.controllers").read_text().split()
        (_CGROUPS / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in controllers))
        (_CGROUPS / name).mkdir(exist_ok=True)
        return
    for hierarchy in _CGROUPS.iterdir():
        if hierarchy.is_dir():
            (hierarchy / name).mkdir(exist_ok=True)
    for file in ("cpuset.cpus", "cpuset.mems"):
        (_CGROUPS / "cpuset" / name / file).write_text((_CGROUPS / "cpuset" / file).read_text())


def _containerd_config(folder: Path) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""\
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  # Profiles would be loaded into the machine's kernel, and stay there.
  disable_apparmor = true
  [{cri}.cni]
    bin_dir = "{folder}/cni-bin"
    conf_dir = "{folder}/cni"
"""


def _network_config(name: str) -> str:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isDefaultGateway": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": str(Addresses.pods(name))}]]},
    }
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, {"type": _ANNOUNCE.stem}]})


def _kubelet_config(layout: Layout, name: str) -> str:
    folder = layout.node(name)
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": False},
                "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
            },
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{layout.cgroup(name)}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": True,
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            # Images come from `load` only: one that is collected would be gone for good.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "podLogsDir": str(folder / "pod-logs"),
            "volumePluginDir": str(folder / "volume-plugins"),
            "resolvConf": str(folder / "resolv.conf"),
            "clusterDNS": [str(DNS)],
            "clusterDomain": "cluster.local",
        }
    )


class _Node:
    def __init__(self, layout: Layout, plan: Plan, name: str) -> None:
        self._layout = layout
        self._plan = plan
        self._name = name
        self._folder = layout.node(name)
        self._supervisor = Supervisor(layout.logs)

    def start(self) -> None:
        self._folder.mkdir(mode=0o755)
        self._layout.node_pid(self._name).write_text(str(os.getpid()))
        _own_run(self._layout.nodes)
        _cover(self._folder)
        addresses = self._plan.addresses
        if self._name == "node2":
            connect(str(addresses.node2), str(addresses.node1_inner))
        for setting in ("ipv4/ip_forward", "bridge/bridge-nf-call-iptables"):
            Path("/proc/sys/net", setting).write_text("1")
        if self._name == "node1":
            self._translate_addresses()
        _make_cgroup(self._layout.cgroup(self._name))
        self._start_containerd()
        self._start_kubelet()

    def keep(self) -> None:
        """Keep the node's programs running; raises ComponentEnded if one keeps ending while the cluster starts."""
        self._supervisor.keep(self._layout.ready.exists)

    def _translate_addresses(self) -> None:
        """What leaves for the machine has node1's address: the machine knows of no other."""
        rules = f"""\
table ip taskbridge_nat {{
    chain leaving {{
        type nat hook postrouting priority srcnat;
        oifname "eth0" ip saddr != {self._plan.addresses.node1} masquerade
    }}
}}
"""
        done = subprocess.run(["nft", "-f", "-"], input=rules, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"nft refused the rules for what leaves the cluster: {done.stderr.strip()}")

    def _start_containerd(self) -> None:
        (self._folder / "cni").mkdir()
        (self._folder / "cni" / "10-pods.conflist").write_text(_network_config(self._name))
        self._gather_plugins()
        config = self._folder / "containerd.toml"
        config.write_text(_containerd_config(self._folder))
        self._run("containerd", "containerd", f"--config={config}")
        self._supervisor.wait_until(_containerd_answers, "Containerd did not answer", _TIMEOUT)
        for image in self._plan.images:
            run(f"ctr -n k8s.io images import {shlex.quote(image)}")

    def _gather_plugins(self) -> None:
        """Put Debian's network plugins and ours into one folder: containerd looks in no more than one."""
        plugins, announced = self._folder / "cni-bin", self._layout.announcements(self._name)
        for folder in (plugins, announced):
            folder.mkdir()
        for path in _PLUGINS.iterdir():
            (plugins / path.name).symlink_to(path)
        ours = plugins / _ANNOUNCE.stem
        command = shlex.join([sys.executable, "-I", "-S", str(_ANNOUNCE), str(announced)])
        ours.write_text(f"#!/bin/sh\nexec {command}\n")
        ours.chmod(0o755)

    def _start_kubelet(self) -> None:
        config = self._folder / "kubelet.json"
        config.write_text(_kubelet_config(self._layout, self._name))
        (self._folder / "resolv.conf").touch()
        wait_until(self._layout.kubeconfig.exists, "There were no certificates", _TIMEOUT)
        # A kubelet that finds no server waits longer and longer before it asks again.
        self._supervisor.wait_until(Api(self._layout.kubeconfig).is_ready, "The API server was not ready", _TIMEOUT)
        programs = Path(self._plan.kubernetes)
        self._run(
            "kubelet",
            str(programs / "kubelet"),
            f"--config={config}",
            f"--kubeconfig={self._layout.identity_of(self._name)}",
            f"--root-dir={self._folder / 'kubelet'}",
            f"--cert-dir={self._folder / 'kubelet-pki'}",
            f"--hostname-override={self._name}",
            f"--node-ip={self._plan.addresses.of(self._name)}",
            f"--node-labels=topology.kubernetes.io/zone=zone-{NODES.index(self._name) + 1}",
        )
        self._run(
            "kube-proxy",
            str(programs / "kube-proxy"),
            f"--kubeconfig={self._layout.identity_of('kube-proxy')}",
            f"--hostname-override={self._name}",
            f"--cluster-cidr={PODS}",
            "--proxy-mode=nftables",
            "--conntrack-max-per-core=0",
        )

    def _run(self, component: str, *command: str) -> None:
        self._supervisor.start(f"{component}-{self._name}", command)


def _containerd_answers() -> bool:
    return subprocess.run(["ctr", "version"], capture_output=True, check=False).returncode == 0


def main() -> None:
    """Run as `python -m cluster.node STATE_DIR NAME`, in namespaces made for the node."""
    layout, name = Layout.at(sys.argv[1]), sys.argv[2]
    node = _Node(layout, layout.read_plan(), name)
    try:
        node.start()
        node.keep()
    except (ClusterError, OSError) as failed:
        sys.exit(str(failed))


if __name__ == "__main__":
    main()

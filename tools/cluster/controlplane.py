"""The first process of the cluster's namespaces: certificates, etcd, the control plane, then the two nodes."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

from cluster.addresses import API_SERVICE, DNS, NODES, PODS, SERVICES, Addresses
from cluster.api import Api, ApiError
from cluster.certificates import Authority, write_service_account_key
from cluster.errors import ClusterError
from cluster.layout import Layout, Plan
from cluster.supervisor import Supervisor, wait_until

__all__ = ["dns_runs", "main"]

_MANIFESTS = Path(__file__).with_name("manifests")
_TIMEOUT = 120.0
_CLIENTS = {
    "admin": "/O=system:masters/CN=admin",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
    "kubelet-client": "/O=system:masters/CN=kubelet-client",
    **{node: f"/O=system:nodes/CN=system:node:{node}" for node in NODES},
}
_NAMES = ["kubernetes", *(f"kubernetes.default{rest}" for rest in ("", ".svc", ".svc.cluster.local")), "localhost"]
_ETCD = "http://127.0.0.1:2379"


def run(command: str) -> None:
    """Run a command to its end; raises ClusterError with what it said."""
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"`{command}` failed: {(done.stderr or done.stdout).strip()}")


def connect(address: str, gateway: str) -> None:
    """Wait for the interface eth0, which is put into this network namespace from outside, and bring it up."""
    wait_until(lambda: Path("/proc/self/net/dev").read_text().find("eth0:") >= 0, "No eth0 appeared", 10.0)
    run("ip link set lo up")
    run(f"ip address add {address}/30 dev eth0")
    run("ip link set eth0 up")
    run(f"ip route add default via {gateway}")


class _ControlPlane:
    def __init__(self, layout: Layout, plan: Plan) -> None:
        self._layout = layout
        self._programs = Path(plan.kubernetes)
        self._storage = plan.storage
        self._addresses = plan.addresses
        self._supervisor = Supervisor(layout.logs)
        self._began = time.monotonic()

    def start(self) -> None:
        self._make_storage()
        connect(str(self._addresses.node1), str(self._addresses.machine))
        self._make_identities()
        self._start_nodes()
        self._start_server()
        api = Api(self._layout.kubeconfig)
        self._supervisor.wait_until(api.is_ready, "The API server was not ready", _TIMEOUT)
        self._say("API server ready")
        self._start_controllers()
        self._apply(api)
        self._supervisor.wait_until(lambda: _ready_nodes(api) == set(NODES), "The nodes were not Ready", _TIMEOUT)
        self._say("nodes Ready")
        self._supervisor.wait_until(lambda: dns_runs(api), "CoreDNS was not ready", _TIMEOUT)
        self._say("CoreDNS ready")
        self._layout.ready.touch()

    def keep(self) -> None:
        self._supervisor.keep()

    def _make_storage(self) -> None:
        """Mount the nodes' file system, at a place that is not the machine's."""
        run("mount -t tmpfs -o mode=755 tmpfs /run")
        self._layout.nodes.mkdir(parents=True)
        run(f"mount -t tmpfs -o size={self._storage},mode=755 tmpfs {self._layout.nodes}")

    def _say(self, what: str) -> None:
        print(f"{what} ({time.monotonic() - self._began:.1f} s)", flush=True)  # noqa: T201

    def _make_identities(self) -> None:
        authority = Authority(self._layout.pki)
        authority.create()
        write_service_account_key(self._layout.pki)
        addresses = [self._addresses.node1, API_SERVICE]
        authority.issue("apiserver", "/CN=kube-apiserver", _NAMES, addresses)
        server, context = f"https://{self._addresses.node1}:6443", f"taskbridge-{self._layout.name}"
        for name, subject in _CLIENTS.items():
            authority.issue(name, subject)
            authority.write_kubeconfig(self._layout.identity_of(name), name, server, context)
        authority.write_kubeconfig(self._layout.kubeconfig, "admin", server, context)

    def _start_nodes(self) -> None:
        """
        Start both nodes; node2 gets a network namespace of its own, and a link to this one, which is node1's.

        Neither can be started again: its pods, and the link, would stay with the namespaces that it had.
        """
        this = [sys.executable, "-m", "cluster.node", str(self._layout.root)]
        isolated = ["unshare", "--mount", "--propagation", "private"]
        self._supervisor.start("node1", [*isolated, *this, "node1"], once=True)
        pid = self._supervisor.start("node2", [*isolated, "--net", *this, "node2"], once=True)
        ours, theirs = (Path(f"/proc/{one}/ns/net") for one in ("self", pid))
        self._supervisor.wait_until(lambda: theirs.readlink() != ours.readlink(), "Node2 did not start", 10.0)
        run(f"ip link add node2 type veth peer name eth0 netns {pid}")
        run(f"ip address add {self._addresses.node1_inner}/30 dev node2")
        run("ip link set node2 up")
        run(f"ip route add {Addresses.pods('node2')} via {self._addresses.node2}")

    def _start_server(self) -> None:
        peers = "http://127.0.0.1:2380"
        self._supervisor.start(
            "etcd",
            [
                "etcd",
                f"--data-dir={self._layout.etcd}",
                f"--listen-client-urls={_ETCD}",
                f"--advertise-client-urls={_ETCD}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=default={peers}",
            ],
        )
        pki = self._layout.pki
        self._start(
            "kube-apiserver",
            f"--etcd-servers={_ETCD}",
            f"--advertise-address={self._addresses.node1}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            # Who may have privileged containers is the namespaces' Pod Security to say.
            "--allow-privileged=true",
            f"--tls-cert-file={pki}/apiserver.crt",
            f"--tls-private-key-file={pki}/apiserver.key",
            f"--client-ca-file={pki}/ca.crt",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki}/sa.pub",
            f"--service-account-signing-key-file={pki}/sa.key",
            f"--service-cluster-ip-range={SERVICES}",
            # Names of nodes are in no DNS that the server could ask.
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={pki}/kubelet-client.crt",
            f"--kubelet-client-key={pki}/kubelet-client.key",
            "--profiling=false",
        )

    def _start_controllers(self) -> None:
        pki = self._layout.pki
        # There is one of each: an election would only end them when the API server is away for a while.
        self._start(
            "kube-controller-manager",
            "--leader-elect=false",
            "--use-service-account-credentials",
            f"--kubeconfig={self._layout.identity_of('kube-controller-manager')}",
            f"--service-account-private-key-file={pki}/sa.key",
            f"--root-ca-file={pki}/ca.crt",
            f"--cluster-cidr={PODS}",
        )
        self._start(
            "kube-scheduler", "--leader-elect=false", f"--kubeconfig={self._layout.identity_of('kube-scheduler')}"
        )
        self._supervisor.start("agents", [sys.executable, "-m", "cluster.agents", str(self._layout.root)])

    def _start(self, name: str, *arguments: str) -> None:
        self._supervisor.start(name, [str(self._programs / name), *arguments])

    def _apply(self, api: Api) -> None:
        """Create what the cluster comes with: DNS, a storage class."""
        manifests = "".join(f"---\n{path.read_text()}" for path in sorted(_MANIFESTS.glob("*.yaml")))
        command = [str(self._programs / "kubectl"), f"--kubeconfig={self._layout.kubeconfig}", "apply", "-f", "-"]
        # The service's namespace has a default account a moment after the server is ready.
        self._supervisor.wait_until(lambda: _exists(api, "/api/v1/namespaces/kube-system"), "No kube-system", _TIMEOUT)
        done = subprocess.run(
            command, input=manifests.replace("@DNS@", str(DNS)), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ClusterError(f"kubectl could not create the cluster's DNS and storage class: {done.stderr.strip()}")


def _exists(api: Api, path: str) -> bool:
    try:
        api.get(path)
    except ApiError as refused:
        if refused.status in {0, 404}:
            return False
        raise
    return True


def _ready_nodes(api: Api) -> set[str]:
    return {
        node["metadata"]["name"]
        for node in api.get("/api/v1/nodes")["items"]
        if any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"].get("conditions", []))
    }


def dns_runs(api: Api) -> bool:
    """Whether a pod of CoreDNS is ready; raises ApiError."""
    deployment = api.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns")
    return int(deployment["status"].get("readyReplicas", 0)) > 0


def main() -> None:
    """Run as `python -m cluster.controlplane STATE_DIR`, process 1; starts when a line comes on standard input."""
    layout = Layout.at(sys.argv[1])
    # Whoever started us may have died before it could record us; then the pipe is closed without a line.
    if not sys.stdin.readline():
        sys.exit(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, sys.stdin.fileno())
    try:
        control_plane = _ControlPlane(layout, layout.read_plan())
        control_plane.start()
    except (ClusterError, OSError) as failed:
        layout.failure.write_text(str(failed))
        sys.exit(1)
    control_plane.keep()


if __name__ == "__main__":
    main()

"""A certificate authority of the cluster's own, and the kubeconfig files that its certificates make."""

import base64
import json
import subprocess
from collections.abc import Iterable
from ipaddress import IPv4Address
from pathlib import Path

from cluster.errors import ClusterError

__all__ = ["Authority", "write_service_account_key"]

_DAYS = "365"
# Without a file of its own openssl adds the extensions that the machine's file asks for.
_CONFIG = "[req]\ndistinguished_name = name\n[name]\n"
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: str, folder: Path) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"openssl {arguments[0]} failed in {folder}: {done.stderr.strip()}")


def write_service_account_key(folder: Path) -> None:
    """Write `sa.key` and `sa.pub`, with which the API server signs and checks the tokens of pods."""
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", "sa.key", folder=folder)
    _openssl("pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub", folder=folder)


class Authority:
    """Signs certificates; keys and certificates are files `<name>.key` and `<name>.crt` of its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        """Make the authority's own key and certificate."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / "openssl.cnf").write_text(_CONFIG)
        extensions = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")
        self._request("ca", "/CN=taskbridge-local-cluster", extensions)

    def issue(self, name: str, subject: str, names: Iterable[str] = (), addresses: Iterable[IPv4Address] = ()) -> None:
        """Make a key and a certificate for a server under these names, or for a client, or both."""
        usages = "serverAuth,clientAuth"
        alternatives = ",".join([*(f"DNS:{one}" for one in names), *(f"IP:{one}" for one in addresses)])
        extensions = ["basicConstraints=critical,CA:FALSE", f"extendedKeyUsage={usages}"]
        if alternatives:
            extensions.append(f"subjectAltName={alternatives}")
        self._request(name, subject, extensions, "-CA", "ca.crt", "-CAkey", "ca.key")

    def _request(self, name: str, subject: str, extensions: Iterable[str], *signer: str) -> None:
        added = [word for extension in extensions for word in ("-addext", extension)]
        files = ("-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", _DAYS, "-subj", subject)
        _openssl("req", "-x509", "-config", "openssl.cnf", *_CURVE, *signer, *files, *added, folder=self.folder)

    def write_kubeconfig(self, path: Path, name: str, server: str, context: str) -> None:
        """Write a kubeconfig (as JSON, which is YAML too) for a client; its owner alone may read it."""
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        authority, certificate, key = (
            base64.b64encode((self.folder / file).read_bytes()).decode()
            for file in ("ca.crt", f"{name}.crt", f"{name}.key")
        )
        cluster = {"server": server, "certificate-authority-data": authority}
        user = {"client-certificate-data": certificate, "client-key-data": key}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": context, "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": name}}],
            "current-context": context,
        }
        path.write_text(f"{json.dumps(config, indent=2)}\n")

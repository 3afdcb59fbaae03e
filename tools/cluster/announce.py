"""
A CNI plugin, last in the chain: it tells of a pod's address, and waits until the pod's rules are in force.

No container of the pod starts before, so none is let through, or held up, for want of a rule. It runs once per pod, by
path and without the project's packages: `announce.py FOLDER`, where FOLDER holds a file per pod sandbox.
"""

import json
import os
import sys
import time
from pathlib import Path

__all__ = ["IN_FORCE", "main"]

IN_FORCE = ".in-force"
"""What the name of the file that answers an announcement ends in."""

_TIMEOUT = 60.0
_POLL = 0.02
_VERSIONS = ["0.3.1", "0.4.0"]


def main() -> int:
    """Do as the environment's CNI_COMMAND says; the answer goes to standard output, as CNI wants it."""
    command = os.environ["CNI_COMMAND"]
    if command == "VERSION":
        return _answer({"cniVersion": _VERSIONS[-1], "supportedVersions": _VERSIONS})
    announced = Path(sys.argv[1]) / os.environ["CNI_CONTAINERID"]
    answered = announced.with_name(f"{announced.name}{IN_FORCE}")
    if command == "DEL":
        for path in (announced, answered):
            path.unlink(missing_ok=True)
        return 0
    result = json.load(sys.stdin).get("prevResult", {})
    if command != "ADD":
        return 0
    names = dict(pair.split("=", 1) for pair in os.environ["CNI_ARGS"].split(";"))
    address = result["ips"][0]["address"].partition("/")[0]
    draft = announced.with_name(f".{announced.name}")
    draft.write_text(json.dumps([names["K8S_POD_NAMESPACE"], names["K8S_POD_NAME"], address]))
    draft.replace(announced)
    deadline = time.monotonic() + _TIMEOUT
    while not answered.exists():
        if time.monotonic() > deadline:
            announced.unlink()
            why = f"the rules for {address} were not in force within {_TIMEOUT:g} s: see the log of the agents"
            _answer({"cniVersion": _VERSIONS[-1], "code": 11, "msg": why})
            return 1
        time.sleep(_POLL)
    return _answer(result)


def _answer(what: object) -> int:
    json.dump(what, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())

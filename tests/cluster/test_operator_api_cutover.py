"""The operator between a real API server and a real bridge: Cutovers, as `kubectl` makes and shows them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from devstack.ports import free_port
from tests.cluster.kube import wait_for
from tests.cluster.operating import PATIENCE, Operator, Pass, Town, steady
from tests.project.harness import Project, project

pytestmark = pytest.mark.services

SITE = """
from bridged.settings import *

ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "site_urls"
TASKBRIDGE = {**TASKBRIDGE, "api_tokens": %r}
"""
URLS = """
from django.urls import include, path

urlpatterns = [path("bridge/api/", include("taskbridge.contrib.django.api.urls"))]
"""
SERVICES = ("work", "elsewhere")


class Site:
    """The small project, with the bridge's HTTP API."""

    def __init__(self, one: Project) -> None:
        self.project = one
        self.known = one.directory / "tokens" / "operator"
        """The token that the bridge takes."""
        self.sent = one.directory / "token"
        """The one that the operator has."""
        self._port = free_port()
        self._process: Any = None
        self.known.parent.mkdir()
        for path in (self.known, self.sent):
            path.write_text("o" * 40)
        (one.directory / "site_settings.py").write_text(SITE % str(self.known.parent))
        (one.directory / "site_urls.py").write_text(URLS)
        path = os.pathsep.join([one.environment["PYTHONPATH"], str(one.directory)])
        one.environment |= {"PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "site_settings"}

    @property
    def url(self) -> str:
        """Where the API is mounted."""
        return f"http://127.0.0.1:{self._port}/bridge/api"

    def start(self) -> None:
        """Serve."""
        where = f"127.0.0.1:{self._port}"
        self._process = self.project.start("site", "django", "runserver", "--noreload", where)

    def stop(self) -> None:
        """Serve no longer."""
        self._process.terminate()

    def audit(self, service: str) -> list[dict[str, Any]]:
        """Return the service's transitions, the oldest first."""
        said = self.project.cli("audit", service, "--json").stdout
        return list(reversed(json.loads(said)["transitions"]))


@pytest.fixture(scope="module")
def site(servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The project with its API, served."""
    with project(tmp_path_factory.mktemp("site"), f"t{uuid4().hex[:10]}", servers) as one:
        found = Site(one)
        found.start()
        yield found


@pytest.fixture(scope="module")
def operator(town: Town, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator, at work with the rights that the chart gives it."""
    served = {"namespaces": [town.namespace]}
    bridge = {"url": site.url, "tokenFile": str(site.sent), "pollSeconds": 1, **served}
    # One for nobody here.
    settings = {"bridges": {"main": bridge, "closed": {**bridge, "namespaces": ["elsewhere"]}}, **served}
    admitted = Pass(town.kube, town.namespace, tmp_path_factory.mktemp("pass"))
    one = Operator(tmp_path_factory.mktemp("operator"), admitted.kubeconfig, settings)
    one.start()
    yield one
    one.kill()
    admitted.way.cut()


@pytest.fixture
def cutover(town: Town, operator: Operator) -> Callable[..., str]:
    """A function that makes a Cutover, and returns its name; none of the service is left from before."""

    def make(service: str, **spec: Any) -> str:
        town.run("delete", "cutovers", "--all", "--wait=true", "--timeout=60s")
        name = f"{service}-{uuid4().hex[:6]}"
        town.kube.apply(
            {
                "apiVersion": "taskbridge.dev/v1alpha1",
                "kind": "Cutover",
                "metadata": {"name": name, "namespace": town.namespace},
                "spec": {"service": service, **spec},
            }
        )
        return name

    return make


def reset(site: Site, service: str) -> None:
    """Bring a service back to where every test begins."""
    site.project.cli("kill", service, "--reason", "a test begins")


def test_one_without_a_stage_asks_for_nothing_and_shows_how_things_stand(
    town: Town, site: Site, cutover: Callable[..., str]
) -> None:
    name = cutover("work")
    town.wait(name, "InSync", "NothingRequested", "cut")
    row = town.row("cutovers", name)
    assert row.pop("AGE")
    assert row == {
        "NAME": name, "SERVICE": "work", "STAGE": "off", "PERCENT": "0", "REQUESTED": "", "INSYNC": "True", "BY": "",
        "MOVED": "", "VERDICT": "", "REASON": "NothingRequested",
    }  # fmt: skip
    following = wait_for(lambda: town.status(name, "cut").get("next"), "the next step is shown", PATIENCE)
    assert following["step"] == "mirror"
    assert site.audit("work") == []


def test_a_change_of_the_spec_is_one_request_and_the_audit_names_who(
    town: Town, site: Site, cutover: Callable[..., str], operator: Operator
) -> None:
    name = cutover("work")
    town.wait(name, "InSync", "NothingRequested", "cut")
    town.run("annotate", "cut", name, "taskbridge.dev/requested-by=alice")
    town.change("cut", name, {"stage": "mirror", "reason": "first look"})
    town.wait(name, "InSync", "AsRequested", "cut")
    row = town.row("cut", name)
    assert (row["STAGE"], row["REQUESTED"], row["INSYNC"]) == ("mirror", "mirror", "True")
    wait_for(lambda: town.row("cut", name)["BY"] == "api:operator for alice", "who moved it is shown", PATIENCE)
    assert "work is mirror" in town.wait_event(name, "TransitionRequested")["message"]
    last = site.audit("work")[-1]
    assert (last["action"], last["why"], last["who"]) == ("move", "first look", "api:operator for alice")
    assert last["request_id"] == f"{town.get('cut', name)['metadata']['uid']}.2"
    operator.kill()
    operator.start()
    town.change("cut", name, {"reason": "asked again"})
    wait_for(lambda: town.status(name, "cut")["request"]["generation"] == 3, "the second was dealt with", PATIENCE)
    assert "already" in town.status(name, "cut")["request"]["message"]
    assert [row["after"]["stage"] for row in site.audit("work")] == ["mirror", "mirror"]
    assert not town.events(name, "OutOfSync")


def test_it_shows_who_moved_it_when_and_what_the_next_step_still_needs(
    town: Town, site: Site, cutover: Callable[..., str]
) -> None:
    reset(site, "elsewhere")
    name = cutover("elsewhere", stage="mirror", reason="copies")
    town.wait(name, "InSync", "AsRequested", "cut")
    wait_for(lambda: town.status(name, "cut").get("verdict"), "the dual run is judged", PATIENCE)
    found, row = town.at_once("cut", name, "--output=wide")
    status, last = found["status"], site.audit("elsewhere")[-1]
    assert datetime.fromisoformat(status["changedAt"]) == datetime.fromisoformat(last["at"])
    assert re.fullmatch(r"(\d+[ms])+", row["MOVED"])
    assert row["BY"] == status["changedBy"] == last["who"] == "api:operator"
    assert row["VERDICT"] == status["verdict"]["state"] == "INSUFFICIENT"
    assert "no dispatch of elsewhere was observed" in status["verdict"]["sentence"]
    assert row["NEXT"] == status["next"]["step"] == "live 1%"
    assert json.loads(row["MISSING"]) == status["next"]["missing"]
    needed = dict(one.split(": ", 1) for one in status["next"]["missing"])
    assert needed["verdict"] == status["verdict"]["sentence"]
    assert "start `taskbridge worker --service elsewhere`" in needed["members"]
    assert not status["next"]["allowed"]


def test_what_the_bridge_refuses_is_told_with_what_it_takes(
    town: Town, site: Site, cutover: Callable[..., str]
) -> None:
    reset(site, "elsewhere")
    name = cutover("elsewhere", stage="live", percent=1, reason="too early")
    refused = town.wait(name, "Accepted", "Refused", "cut")
    assert "Ask again with a new spec.reason" in refused["message"]
    assert town.condition(name, "InSync", "cut")["status"] == "False"
    assert town.wait_event(name, "TransitionRefused")["type"] == "Warning"
    assert town.status(name, "cut")["stage"] == "off"
    count = len(site.audit("elsewhere"))
    assert steady(lambda: len(site.audit("elsewhere")) == count, 3.0)


def test_what_moves_elsewhere_is_shown_and_not_undone(town: Town, site: Site, cutover: Callable[..., str]) -> None:
    reset(site, "elsewhere")
    name = cutover("elsewhere", stage="mirror", reason="copies")
    town.wait(name, "InSync", "AsRequested", "cut")
    site.project.cli("cutover", "elsewhere", "off", "--reason", "too dear")
    moved = town.wait(name, "InSync", "MovedElsewhere", "cut")
    assert "asked to be mirror and was moved to off by " in moved["message"]
    assert "(too dear); nothing is undone" in moved["message"]
    town.wait_event(name, "OutOfSync")
    assert steady(lambda: town.status(name, "cut")["stage"] == "off", 4.0)
    town.change("cut", name, {"reason": "once more"})
    town.wait(name, "InSync", "AsRequested", "cut")
    assert town.status(name, "cut")["stage"] == "mirror"


def test_hold_release_and_kill(town: Town, site: Site, cutover: Callable[..., str]) -> None:
    reset(site, "elsewhere")
    name = cutover("elsewhere", stage="mirror", reason="copies")
    town.wait(name, "InSync", "AsRequested", "cut")
    town.change("cut", name, {"hold": True, "reason": "a release is due"})
    wait_for(lambda: town.status(name, "cut").get("hold"), "it is held", PATIENCE)
    assert town.row("cut", name)["REQUESTED"] == "mirror on hold"
    town.change("cut", name, {"hold": False})
    wait_for(lambda: not town.status(name, "cut").get("hold"), "it is released", PATIENCE)
    town.change("cut", name, {"kill": True, "reason": "smoke"})
    wait_for(lambda: town.status(name, "cut")["stage"] == "off", "it is killed", PATIENCE)
    town.change("cut", name, {"kill": False})
    wait_for(lambda: town.status(name, "cut")["request"]["generation"] == 5, "that was dealt with", PATIENCE)
    # The stage of the spec is still mirror: taking the kill back asks for nothing.
    assert steady(lambda: town.status(name, "cut")["stage"] == "off", 3.0)
    assert not town.events(name, "OutOfSync")
    assert [row["action"] for row in site.audit("elsewhere")[-4:]] == ["move", "hold", "release", "kill"]
    assert "kill is still set" not in town.change("cut", name, {"stage": "off"})


def test_several_requests_of_one_change(town: Town, site: Site, cutover: Callable[..., str]) -> None:
    reset(site, "elsewhere")
    name = cutover("elsewhere", stage="mirror", hold=True, reason="too fast")
    refused = town.wait(name, "Accepted", "Refused", "cut")
    assert "hold: done; elsewhere is off on hold. move to mirror is refused: " in refused["message"]
    assert "elsewhere is held" in refused["message"]
    town.change("cut", name, {"hold": False})
    wait_for(lambda: town.status(name, "cut")["request"]["generation"] == 2, "it is released", PATIENCE)
    town.change("cut", name, {"reason": "now"})
    town.wait(name, "InSync", "AsRequested", "cut")
    town.change("cut", name, {"kill": True, "hold": True, "reason": "smoke"})
    wait_for(lambda: town.status(name, "cut")["request"]["generation"] == 4, "it is killed", PATIENCE)
    town.wait(name, "InSync", "AsRequested", "cut")
    assert town.row("cut", name)["REQUESTED"] == "off on hold"
    town.change("cut", name, {"kill": False, "hold": False})
    wait_for(lambda: not town.status(name, "cut").get("hold"), "it is released", PATIENCE)
    actions = [row["action"] for row in site.audit("elsewhere")[-6:]]
    assert actions == ["hold", "release", "move", "kill", "hold", "release"]


def test_a_bridge_that_is_away_is_told_and_only_the_last_spec_is_sent(
    town: Town, site: Site, cutover: Callable[..., str]
) -> None:
    reset(site, "elsewhere")
    name = cutover("elsewhere")
    town.wait(name, "InSync", "NothingRequested", "cut")
    count = len(site.audit("elsewhere"))
    site.stop()
    town.wait(name, "BridgeReachable", "BridgeUnreachable", "cut")
    town.change("cut", name, {"stage": "mirror", "reason": "superseded"})
    town.wait(name, "Accepted", "Pending", "cut")
    town.change("cut", name, {"reason": "the last word"})
    site.start()
    town.wait(name, "InSync", "AsRequested", "cut")
    assert [row["why"] for row in site.audit("elsewhere")[count:]] == ["the last word"]
    assert town.condition(name, "BridgeReachable", "cut")["status"] == "True"


def test_an_unknown_service_and_an_unknown_bridge_are_told(town: Town, cutover: Callable[..., str]) -> None:
    name = cutover("payments", stage="mirror")
    said = town.wait(name, "BridgeReachable", "ServiceUnknown", "cut")["message"]
    assert "no service 'payments'; it has: elsewhere, work" in said
    name = cutover("work", bridge="other")
    assert "no bridge 'other'" in town.wait(name, "BridgeReachable", "BridgeUnknown", "cut")["message"]
    name = cutover("work", bridge="closed", stage="mirror")
    said = town.wait(name, "BridgeReachable", "BridgeUnknown", "cut")["message"]
    assert f"the namespace {town.namespace} may not use the bridge 'closed'" in said
    assert "bridges.closed.namespaces" in said


def test_a_token_that_is_not_known_is_told_and_a_rotated_one_is_used(
    town: Town, site: Site, cutover: Callable[..., str]
) -> None:
    name = cutover("work")
    town.wait(name, "BridgeReachable", "Answers", "cut")
    site.sent.write_text("n" * 40)
    refused = town.wait(name, "BridgeReachable", "TokenRefused", "cut")
    assert str(site.sent) in refused["message"]
    site.sent.unlink()
    town.wait(name, "BridgeReachable", "TokenMissing", "cut")
    for path in (site.known, site.sent):
        path.write_text("n" * 40)
    town.wait(name, "BridgeReachable", "Answers", "cut")


CHANGES = [
    ({"stage": "live"}, "shadow and live need a percent"),
    ({"percent": 5}, "percent goes with a stage"),
    ({"override": True}, "override needs a reason"),
    ({"service": "elsewhere"}, "stays with its service and bridge"),
    ({"stage": "mirror", "hold": True}, "one change sets hold or the stage"),
    ({"stage": "gone"}, "Unsupported value"),
]


@pytest.mark.parametrize(("spec", "words"), CHANGES, ids=[words for _, words in CHANGES])
def test_the_api_server_refuses_what_makes_no_sense(
    town: Town, cutover: Callable[..., str], spec: dict[str, Any], words: str
) -> None:
    assert words in town.change("cut", cutover("work"), spec, check=False)


def test_what_stays_set_does_not_slip_into_the_next_request(town: Town, cutover: Callable[..., str]) -> None:
    name = cutover("payments", override=True, reason="trial", kill=True)
    said = town.change("cut", name, {"stage": "mirror"}, check=False)
    assert "override is still set from the request before" in said
    assert "kill is still set" in said
    town.change("cut", name, {"stage": "mirror", "kill": False, "override": False})

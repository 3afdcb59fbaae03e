"""
The operator on a real cluster: it scales real consumers of a real Kafka, and carries kubectl's requests to the bridge.

One story: the tests follow one another in this order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cluster.kube import is_ready, wait_for
from tests.cluster.operated import Operated
from tests.cluster.system import System, ran_by_side

pytestmark = pytest.mark.timeout(900)

GOLDEN = Path(__file__).parent / "golden/operator-rights.txt"

WORKER = "shop-worker-notifications"

DIGESTS = (
    "import sys\n"
    "from shop.notifications.tasks import send_digest\n"
    "for number in range(int(sys.argv[1])): send_digest.delay(f'digest {number}', ['one line'])\n"
)

# Tasks that are acknowledged when they end, so that their records are behind the committed offset while they run.
MAILS = (
    "import sys, uuid\n"
    "from shop.notifications.models import Notification\n"
    "from shop.notifications.tasks import delivery\n"
    "from shop.orders.models import Customer\n"
    "for _ in range(int(sys.argv[1])):\n"
    "    notice = Notification.objects.create(\n"
    "        customer=Customer.objects.first(), channel='mail', kind=uuid.uuid4().hex,\n"
    "        recipient='someone@example.com', subject='News', body='One line.')\n"
    "    delivery(notice).apply_async()\n"
)

# What somebody does in Django's admin, by its own page.
ADMIN = (
    "import sys\n"
    "from django.conf import settings\n"
    "from django.contrib.auth.models import User\n"
    "from django.test import Client\n"
    "settings.ALLOWED_HOSTS = ['localhost']\n"
    "jane = User.objects.filter(username='jane').first() or User.objects.create_superuser('jane')\n"
    "browser = Client(headers={'host': 'localhost'})\n"
    "browser.force_login(jane)\n"
    "page = '/admin/taskbridge/serviceflag/notifications/move/'\n"
    "answer = browser.post(page, {'stage': 'mirror', 'epoch': sys.argv[1], 'reason': 'the pager rang'}, follow=True)\n"
    "assert answer.status_code == 200, answer\n"
)


@pytest.fixture(scope="module")
def operated(system: System) -> Iterator[Operated]:
    one = Operated(system)
    try:
        one.start()
        yield one
    finally:
        one.end()


@pytest.fixture(autouse=True)
def as_it_was(operated: Operated) -> Iterator[None]:
    """Leave the plain consumer and the mail server to the next test as this one found them, even where it fails."""
    yield
    operated.calm()


def test_its_rights_are_the_least(operated: Operated) -> None:
    who = "system:serviceaccount:shop:lagscaler"
    listed = operated.kube.run("auth", "can-i", "--list", f"--as={who}", "--namespace", "shop")
    found: dict[str, str] = {}
    for line in listed.splitlines()[1:]:
        match = re.fullmatch(r"(\S+)\s+\[.*?\]\s+\[.*?\]\s+\[(.*)\]", line)
        if match and not match[1].startswith("selfsubject"):
            found[match[1]] = " ".join(sorted(match[2].split()))
    lines = [line.split() for line in GOLDEN.read_text().splitlines() if line and not line.startswith("#")]
    assert found == {name: " ".join(sorted(verbs)) for name, *verbs in lines}
    asked = ("auth", "can-i", "get", "secrets", f"--as={who}", "--namespace", "shop")
    assert operated.kube.run(*asked, check=False).strip() == "no"


def test_kubectl_shows_at_a_glance_how_each_consumer_stands(operated: Operated) -> None:
    wait_for(lambda: operated.condition("pace", "Ready")["status"] == "True", "pace is ready")
    wait_for(lambda: operated.condition("notifications", "Ready")["status"] == "True", "notifications is ready")
    wait_for(lambda: operated.rows("kcon")["notifications"]["STAGE"] == "off", "the stage is shown")
    rows = operated.rows("kcon")
    assert set(rows) == {"notifications", "orders", "pace"}
    row = rows["notifications"]
    assert list(row) == [
        "NAME", "STAGE", "MODE", "READY", "REPLICAS", "DESIRED", "LAGSEC", "LAG", "SLO", "REASON", "AGE",
    ]  # fmt: skip
    assert row["REASON"]
    assert re.fullmatch(r"\d+[smh].*", row["AGE"])
    shown = {name: row[name] for name in ("MODE", "READY", "REPLICAS", "DESIRED", "LAGSEC", "LAG", "SLO")}
    assert shown == {
        "MODE": "Auto", "READY": "True", "REPLICAS": "1", "DESIRED": "1", "LAGSEC": "0", "LAG": "0", "SLO": "60",
    }  # fmt: skip
    assert rows["pace"]["STAGE"] == ""


def test_kubectl_scale_works_by_hand_and_is_refused_elsewhere(operated: Operated) -> None:
    said = operated.kube.run("scale", "kcon/pace", "--namespace", "shop", "--replicas=3", check=False)
    assert "Manual" in said
    operated.patch("kcon", "pace", {"mode": "Manual", "replicas": 2})
    operated.wait_for_replicas("pace", 2)
    operated.kube.run("scale", "kcon/pace", "--namespace", "shop", "--replicas=3")
    operated.wait_for_replicas("pace", 3)
    operated.patch("kcon", "pace", {"mode": "Auto"})
    operated.wait_for_replicas("pace", 1)


def test_a_foreign_write_is_corrected_and_told(operated: Operated) -> None:
    operated.kube.run("scale", "deployment/pace", "--namespace", "shop", "--replicas=4")
    wait_for(lambda: "ReplicasOverwritten" in operated.events("pace"), "the event")
    operated.wait_for_replicas("pace", 1)
    assert operated.status("pace")["desiredReplicas"] == 1


def test_a_service_is_cut_over_by_kubectl_alone(operated: Operated) -> None:
    for spec in (
        {"stage": "mirror", "reason": "a trial"},
        {"stage": "live", "percent": 50, "override": True, "reason": "a trial, half of it"},
        {"stage": "live", "percent": 100, "override": True, "reason": "a trial, all of it"},
    ):
        operated.patch("cutover", "notifications", spec)
        wait_for(
            lambda spec=spec: _stands(operated) == (spec["stage"], spec.get("percent", 0)), f"{spec} is carried out"
        )
    wait_for(lambda: "operator" in operated.rows("cutover")["notifications"]["BY"], "it is known who moved it")
    row = operated.rows("cutover")["notifications"]
    assert (row["SERVICE"], row["STAGE"], row["PERCENT"], row["INSYNC"]) == ("notifications", "live", "100", "True")
    assert "OutOfSync" not in operated.events("notifications")
    before = ran_by_side(operated.system.account(), "shop.notifications")
    operated.system.python(DIGESTS, "5")
    after = ran_by_side(operated.system.settled(), "shop.notifications")
    assert after["kafka"] - before["kafka"] == 5
    assert after["celery"] == before["celery"]
    audit = json.loads(operated.system.bridge("audit", "notifications", "--json"))
    assert "a trial, all of it" in json.dumps(audit)


def test_what_the_bridge_refuses_is_told_with_its_conditions(operated: Operated) -> None:
    operated.patch("cutover", "notifications", {"stage": "complete", "override": False, "percent": None, "reason": "x"})
    wait_for(lambda: operated.condition("notifications", "InSync", "cutover")["status"] == "False", "it is refused")
    request = operated.kube.get("cutover", "shop", "notifications")["status"]["request"]
    assert request["outcome"] == "Refused"
    assert request["missing"]
    assert _stands(operated) == ("live", 100)


def test_a_rollback_made_in_the_admin_is_shown_and_not_undone(operated: Operated) -> None:
    spec = {"stage": "complete", "percent": None, "override": True, "reason": "the trial is over"}
    operated.patch("cutover", "notifications", spec)
    wait_for(lambda: _stands(operated) == ("complete", 100), "it is complete")
    assert operated.condition("notifications", "InSync", "cutover")["status"] == "True"
    operated.system.python(ADMIN, str(operated.kube.get("cutover", "shop", "notifications")["status"]["epoch"]))
    wait_for(lambda: operated.condition("notifications", "InSync", "cutover")["status"] == "False", "it is told")
    wait_for(lambda: "OutOfSync" in operated.events("notifications"), "the event")
    wait_for(lambda: operated.kube.get("cutover", "shop", "notifications")["status"].get("changedBy"), "who it was")
    status = operated.kube.get("cutover", "shop", "notifications")["status"]
    assert status["stage"] == "mirror"
    assert (status["changedBy"], status["changedWhy"]) == ("admin:jane", "the pager rang")
    # The operator comes back, and sees the request and the row anew.
    _restart_operator(operated)
    wait_for(lambda: operated.metric("lagscaler_cutover_in_sync", "notifications") == 0, "it looks again")
    # It asks the bridge every second, and each of these commands takes longer.
    for _ in range(3):
        now = json.loads(operated.system.bridge("status", "notifications", "--json"))["services"][0]
        assert (now["stage"], now["epoch"]) == ("mirror", status["epoch"])
    spec = {"stage": "live", "percent": 100, "override": True, "reason": "mended"}
    operated.patch("cutover", "notifications", spec)
    wait_for(lambda: _stands(operated) == ("live", 100), "it is asked for again")


def test_a_burst_is_followed_up_and_down_within_the_objective(operated: Operated) -> None:
    operated.mail_takes(1)
    # More than one pod can do in time. Of six partitions on four pods one pod has two: a third of it.
    operated.system.python(MAILS, "75")
    most, latest = 1, 0
    while True:
        status = operated.status("notifications")
        most, latest = max(most, status["desiredReplicas"]), max(latest, status["lagSeconds"])
        if most > 1 and status["lag"] == 0:
            break
        wait_for(lambda seen=status: operated.status("notifications") != seen, "the consumer is looked at")
    assert latest <= 60
    assert {"ScaledUp"} <= operated.events("notifications")
    operated.wait_for_replicas(WORKER, 1)
    wait_for(lambda: "ScaledDown" in operated.events("notifications"), "the event")
    operated.mail_takes(0)
    operated.system.settled()


def test_one_slow_task_is_no_stall(operated: Operated) -> None:
    # The shop gives a mail server up after ten seconds.
    operated.mail_takes(9)
    operated.system.python(MAILS, "1")
    after = operated.consumer("notifications")["spec"]["stall"]["afterSeconds"]
    seconds = "lagscaler_lag_seconds"
    wait_for(lambda: (operated.metric(seconds, "notifications") or 0) > after + 1, "it runs for longer than a stall")
    assert operated.status("notifications")["partitions"]["stalled"] == 0
    wait_for(lambda: operated.metric(seconds, "notifications") == 0, "it ends")
    assert "PartitionStalled" not in operated.events("notifications")
    assert operated.replicas(WORKER) == 1
    operated.mail_takes(0)


def test_to_zero_and_back_with_the_offsets_kept(operated: Operated) -> None:
    operated.feed(6, "0")
    wait_for(lambda: len(set(map(str, operated.offsets().values()))) == 1, "everything is committed")
    before = operated.offsets()
    operated.patch("kcon", "pace", {"idle": {"toZero": True}})
    operated.wait_for_replicas("pace", 0)
    wait_for(lambda: operated.status("pace")["reason"] == "Idle", "it is told")
    assert operated.offsets() == before
    operated.feed(12, "0")
    wait_for(lambda: operated.replicas("pace") > 0, "it comes back")
    wait_for(lambda: operated.offsets()["committed"] == [offset + 2 for offset in before["end"]], "all is consumed")
    operated.patch("kcon", "pace", {"idle": {"toZero": False}})
    operated.wait_for_replicas("pace", 1)


def test_killed_in_mid_scale_it_goes_on_where_it_was(operated: Operated) -> None:
    operated.feed(720, "0.5")
    wait_for(lambda: operated.replicas("pace") > 1, "it scales up")
    asked = operated.replicas("pace")
    _restart_operator(operated)
    wait_for(lambda: operated.decided("pace"), "it looks again")
    # While there is work for two minutes of one pod, none of four may go.
    seen = [operated.replicas("pace")]
    while operated.left() > 240:
        assert seen[-1] >= asked
        seen.append(operated.replicas("pace"))
    assert len(seen) > 1
    operated.wait_for_replicas("pace", 1)


def test_while_kafka_is_gone_nothing_is_taken_away(operated: Operated) -> None:
    operated.wait_for_replicas("pace", 1)
    operated.patch("kcon", "pace", {"mode": "Manual", "replicas": 2})
    operated.wait_for_replicas("pace", 2)
    # Nobody finds it any more, and connections that are there end with the process.
    service = ("patch", "service", "kafka", "--namespace", "kafka", "--type=merge", "--patch")
    try:
        operated.kube.run(*service, json.dumps({"spec": {"selector": {"app.kubernetes.io/name": "nobody"}}}))
        operated.kube.execute("kafka", "kafka-0", "sh", "-c", "kill 1", check=False)
        operated.patch("kcon", "pace", {"mode": "Auto"})
        # While its address is still known, it is the leaders that do not answer.
        wait_for(lambda: operated.condition("pace", "MetricsFresh")["reason"] == "KafkaUnreachable", "the gap is told")
        assert operated.condition("pace", "MetricsFresh")["status"] == "False"
        wait_for(lambda: operated.status("pace").get("reason") in {"Incomplete", "Fallback"}, "it holds")
        wait_for(lambda: _seconds_since_stale(operated) > 60 or operated.replicas("pace") != 2, "a minute is over")
        assert operated.replicas("pace") == 2
    finally:
        operated.kube.run(*service, json.dumps({"spec": {"selector": {"app.kubernetes.io/name": "test-kafka"}}}))
    wait_for(lambda: operated.condition("pace", "MetricsFresh")["status"] == "True", "Kafka is back")
    operated.wait_for_replicas("pace", 1)


def test_a_right_that_is_missing_is_named(operated: Operated) -> None:
    operated.wait_for_replicas("pace", 1)
    operated.patch("kcon", "pace", {"group": "somebody.elses"})
    wait_for(lambda: operated.condition("pace", "MetricsFresh")["reason"] == "GroupDenied", "the right is named")
    assert "somebody.elses" in operated.condition("pace", "MetricsFresh")["message"]
    assert operated.replicas("pace") == 1
    operated.patch("kcon", "pace", {"group": "shop.reports"})
    wait_for(lambda: operated.condition("pace", "MetricsFresh")["status"] == "True", "it may look again")


def test_a_consumer_without_progress_is_not_fed_more_pods(operated: Operated) -> None:
    operated.wait_for_replicas("pace", 1)
    operated.patch("kcon", "pace", {"stall": {"afterSeconds": 20}, "slo": {"latencySeconds": 30}})
    # Not so many that more pods would be right before it is known that none of them gets on.
    operated.feed(12, "poison")
    most = 1

    def missed() -> bool:
        nonlocal most
        most = max(most, operated.replicas("pace"))
        found = operated.status("pace")
        return found["partitions"]["stalled"] > 0 and found["lagSeconds"] > 30

    wait_for(missed, "it is found, and the objective missed")
    wait_for(lambda: operated.condition("pace", "PartitionStalled")["status"] == "True", "it is told")
    wait_for(lambda: operated.condition("pace", "SLOMet")["status"] == "False", "and that the objective is missed")
    decisions = operated.decided("pace")
    wait_for(lambda: missed() and operated.decided("pace") > decisions + 5, "it is looked at again and again")
    assert most == 1


def test_uninstalled_it_leaves_everything_as_it_is(operated: Operated) -> None:
    replicas = {name: operated.replicas(name) for name in ("pace", WORKER)}
    operated.kube.helm("uninstall", "lagscaler", "--namespace", "shop", "--wait", "--timeout", "3m")
    assert set(operated.rows("kcon")) == {"notifications", "orders", "pace"}
    assert "notifications" in operated.rows("cutover")
    assert {name: operated.replicas(name) for name in replicas} == replicas
    # Nobody is asked before they go.
    operated.kube.run("delete", "kafkaconsumer", "pace", "--namespace", "shop", "--timeout=60s")
    assert operated.replicas("pace") == replicas["pace"]


def _stands(operated: Operated) -> tuple[str, float]:
    """Return the stage and percentage that the Cutover shows, once its last change was dealt with."""
    found = operated.kube.get("cutover", "shop", "notifications")
    status = found.get("status", {})
    if status.get("observedGeneration") != found["metadata"]["generation"]:
        return "", 0
    return status.get("stage", ""), status.get("percent", 0)


def _seconds_since_stale(operated: Operated) -> float:
    since = datetime.fromisoformat(operated.condition("pace", "MetricsFresh")["lastTransitionTime"])
    return (datetime.now(UTC) - since).total_seconds()


def _restart_operator(operated: Operated) -> None:
    selector = "app.kubernetes.io/name=lagscaler"
    [pod] = operated.kube.pods("shop", selector)
    name = pod["metadata"]["name"]
    operated.kube.run("delete", "pod", name, "--namespace", "shop", "--grace-period=0", "--force")

    def replaced() -> bool:
        pods = operated.kube.pods("shop", selector)
        return any(pod["metadata"]["name"] != name and is_ready(pod) for pod in pods)

    wait_for(replaced, "another one is ready")

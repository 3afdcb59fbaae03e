"""
The operator on a real cluster: it scales real consumers of a real Kafka, and carries kubectl's requests to the bridge.

One story: the tests follow one another in this order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.cluster.kube import is_ready, wait_for
from tests.cluster.operated import POISON, Operated
from tests.cluster.operating import golden_rights, rights
from tests.cluster.system import System, ran_by_side

pytestmark = pytest.mark.timeout(900)

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
    assert rights(operated.kube, who, "shop") == golden_rights("operator-rights.txt")
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


def test_a_burst_from_zero_is_done_once_though_the_operator_is_killed(operated: Operated) -> None:
    operated.feed(6, "0")
    wait_for(lambda: operated.left() == 0, "everything is committed")
    before = operated.offsets()
    operated.patch("kcon", "pace", {"idle": {"toZero": True}})
    operated.wait_for_replicas("pace", 0)
    wait_for(lambda: operated.status("pace")["reason"] == "Idle", "it is told")
    assert operated.offsets() == before
    # First it is only shown what would be done.
    operated.patch("kcon", "pace", {"mode": "DryRun"})
    operated.feed(720, "0.5")
    _each_figure_is_in_its_column(operated, lag=720)
    assert operated.replicas("pace") == 0
    operated.patch("kcon", "pace", {"mode": "Auto"})
    wait_for(lambda: operated.replicas("pace") > 1, "it comes back, and scales up")
    asked = operated.replicas("pace")
    _restart_operator(operated)
    wait_for(lambda: operated.decided("pace"), "it looks again")
    # While there is work for two minutes of one pod, none of four may go.
    seen = [operated.replicas("pace")]
    while operated.left() > 240:
        assert seen[-1] >= asked
        seen.append(operated.replicas("pace"))
    assert len(seen) > 1
    operated.wait_for_replicas("pace", 0)
    ends = [offset + 120 for offset in before["end"]]
    assert operated.offsets() == {"committed": ends, "end": ends}
    burst = {
        (partition, offset)
        for partition, (first, end) in enumerate(zip(before["end"], ends, strict=True))
        for offset in range(first, end)
    }
    done = operated.reported()
    assert {record: done[record] for record in burst} == dict.fromkeys(burst, 1)


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


def test_a_right_that_is_missing_is_named_and_nothing_taken_away(operated: Operated) -> None:
    operated.wait_for_replicas("pace", 1)
    operated.patch("kcon", "pace", {"mode": "Manual", "replicas": 2})
    operated.wait_for_replicas("pace", 2)
    operated.patch("kcon", "pace", {"mode": "Auto", "group": "somebody.elses"})
    wait_for(lambda: operated.condition("pace", "MetricsFresh")["reason"] == "GroupDenied", "the right is named")
    assert "somebody.elses" in operated.condition("pace", "MetricsFresh")["message"]
    # Of an idle consumer that it may look at, one pod goes after some ten looks.
    decisions = operated.decided("pace")
    wait_for(lambda: operated.replicas("pace") != 2 or operated.decided("pace") > decisions + 25, "it looks on")
    assert operated.replicas("pace") == 2
    assert operated.condition("pace", "MetricsFresh")["reason"] == "GroupDenied"
    operated.patch("kcon", "pace", {"group": "shop.reports"})
    wait_for(lambda: operated.condition("pace", "MetricsFresh")["status"] == "True", "it may look again")
    operated.wait_for_replicas("pace", 1)


def test_a_consumer_without_progress_is_not_fed_more_pods(operated: Operated) -> None:
    operated.wait_for_replicas("pace", 1)
    # It is known what a pod can do, so that backlog is a reason for more of them.
    spec = {"stall": {"afterSeconds": 20}, "slo": {"latencySeconds": 30}, "capacity": {"perReplica": 2}}
    operated.patch("kcon", "pace", spec)
    # Not so many that more pods would be right before it is known that none of them gets on.
    operated.feed(12, f"0.02 {POISON}")
    wait_for(lambda: operated.condition("pace", "PartitionStalled")["status"] == "True", "it is told")
    wait_for(lambda: operated.status("pace")["partitions"]["stalled"] == 6, "none of the partitions gets on")
    scaled = operated.status("pace").get("lastScale")
    operated.feed(600, f"0.02 {POISON}")
    wait_for(lambda: operated.status("pace")["lag"] == 612, "five minutes of work wait")
    wait_for(lambda: operated.condition("pace", "SLOMet")["status"] == "False", "the objective is missed")
    decisions = operated.decided("pace")
    wait_for(lambda: operated.decided("pace") > decisions + 5, "it is looked at again and again")
    status = operated.status("pace")
    assert (operated.replicas("pace"), status["reason"], status.get("lastScale")) == (1, "Stalled", scaled)
    # The same backlog asks for more at once when somebody gets on with it.
    operated.mail_refuses("")
    wait_for(lambda: operated.replicas("pace") > 1, "more pods are asked for")
    wait_for(lambda: operated.left() == 0, "all is done")
    wait_for(lambda: operated.condition("pace", "PartitionStalled")["status"] == "False", "it is told")


def test_uninstalled_it_leaves_everything_as_it_is(operated: Operated) -> None:
    operated.patch("kcon", "pace", {"mode": "Manual", "replicas": 2})
    operated.wait_for_replicas("pace", 2)
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


def _each_figure_is_in_its_column(operated: Operated, lag: int) -> None:
    """Compare what kubectl shows of the plain consumer with its status, once no two figures are the same."""
    names = ("replicas", "desiredReplicas", "lagSeconds", "lag")

    def told_apart() -> tuple[dict[str, str], dict[str, Any]] | None:
        row, consumer = operated.row("pace") or ({}, {})
        status = consumer.get("status", {})
        figures = {consumer["spec"]["slo"]["latencySeconds"], *(status.get(name) for name in names)} if row else set()
        return (row, consumer) if len(figures) == 5 and status.get("lag") == lag else None

    row, consumer = wait_for(told_apart, "the figures differ from one another")
    status = consumer["status"]
    replicas, desired, seconds, records = (str(status[name]) for name in names)
    [ready] = [one["status"] for one in status["conditions"] if one["type"] == "Ready"]
    assert row == {
        "NAME": "pace", "STAGE": "", "MODE": consumer["spec"]["mode"], "READY": ready,
        "REPLICAS": replicas, "DESIRED": desired, "LAGSEC": seconds, "LAG": records,
        "SLO": str(consumer["spec"]["slo"]["latencySeconds"]), "REASON": status["reason"], "AGE": row["AGE"],
    }  # fmt: skip


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

"""
What goes wrong around an installation: each time a clear message or a safe wait, and nothing is lost.

One story: the tests follow one another in this order. In the end the shop is installed, as others want it.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from tests.cluster.kube import ROOT, Kube, is_ready, wait_for
from tests.cluster.system import MOVED, System, ran_by_side

pytestmark = pytest.mark.timeout(1500)

NEEDS_KAFKA = tuple(f"worker-{name}" for name in MOVED)
"""What does not start before Kafka is as it should be."""

DOES_WITHOUT = ("web", "celery-orders", "relay", "beat", "cli")
"""What has a user in Kafka, and starts without it."""


@pytest.mark.parametrize(
    ("chart", "setting", "said"),
    [
        ("shop", "web.replicaz=3", "replicaz"),
        ("shop", "kafkaWorker.processes=many", "/kafkaWorker/processes"),
        ("shop", "app.generateSecret=false", "app.existingSecret is not set"),
        ("kafka", "topics.retentionMs=long", "/topics/retentionMs"),
        ("kafka", "profile=huge", 'profile is "huge", and profiles knows only dev, production'),
    ],
)
def test_a_wrong_value_is_named_and_nothing_is_made(shop: System, chart: str, setting: str, said: str) -> None:
    before = shop.revision("wrong")
    refused = shop.kube.helm(
        "install", "wrong", str(ROOT / "charts" / chart), "--namespace", "shop", "--set", setting, check=False
    )
    assert said in refused
    assert shop.revision("wrong") == before == 0


@pytest.fixture(scope="module")
def untouched(shop: System) -> System:
    """Return the shop as long as nothing of it was ever installed."""
    if shop.revision("shop"):
        pytest.skip("the shop is there already; this is about its first installation: take a new cluster")
    return shop


def test_without_its_secrets_a_pod_waits_and_says_for_which(untouched: System) -> None:
    shop = untouched
    shop.install("shop", "shop", "shop", shop.values(), "--timeout", "2m")
    users = {f"shop-{name}" for name in ("web", "celery", "relay", "cli", *NEEDS_KAFKA)}
    wait_for(lambda: users <= _missing_secrets(shop.kube), f"{users} are said to be missing", 120)
    for component in (*DOES_WITHOUT, *NEEDS_KAFKA):
        for pod in shop.kube.pods("shop", f"app.kubernetes.io/component={component}"):
            assert pod["status"]["phase"] == "Pending", component


def test_with_its_secrets_but_no_kafka_the_shop_works_on_celery(untouched: System) -> None:
    """Kafka's workers say what they wait for; everything else starts, and loses no task."""
    shop = untouched
    shop.make_secrets()
    shop.kube.rolled_out("shop", *(f"deployment/shop-{name}" for name in DOES_WITHOUT))
    if not shop.stood_in:
        for component in NEEDS_KAFKA:
            wait_for(
                lambda of=component: "waiting: " in _preflight(shop.kube, of), f"{component} says what it waits for"
            )
            said = _preflight(shop.kube, component)
            assert "kafka.kafka.svc.cluster.local" in said, said
    assert "Succeeded" in shop.kube.helm("test", "shop", "--namespace", "shop", "--timeout", "5m")
    assert set(ran_by_side(shop.settled())) == {"celery"}


def test_kafka_comes_and_what_waited_starts_by_itself(shop: System) -> None:
    shop.complete()
    for component in (*DOES_WITHOUT, *NEEDS_KAFKA):
        [*pods] = shop.kube.pods("shop", f"app.kubernetes.io/component={component}")
        assert pods
        assert [pod["metadata"]["name"] for pod in pods if not is_ready(pod)] == []
        started = [one for pod in pods for one in pod["status"]["containerStatuses"]]
        assert [one["restartCount"] for one in started] == [0] * len(started), "it was restarted rather than waiting"


def test_a_migration_that_fails_stops_the_rollout_and_is_named(shop: System) -> None:
    """The tables of an application are there, and the database says that they are not."""
    serving, values = _serving(shop), shop.values()
    shop.sql("UPDATE django_migrations SET name = 'hidden' WHERE app = 'reports' AND name = '0001_initial'")
    values["jobs"]["retries"] = 0
    values["startup"]["migrationsTimeout"] = 3
    try:
        said = shop.install("shop", "shop", "shop", values, "--wait", "--timeout", "20s", check=False)
        assert "UPGRADE FAILED" in said
        wait_for(
            lambda: "See what the job with the migrations says" in _endings(shop.kube, "migrations"),
            "a pod that waits says where to look",
        )
        job = f"job/shop-migrate-{shop.revision('shop')}"
        shop.kube.run("wait", "--namespace", "shop", job, "--for=condition=Failed", "--timeout=110s")
        assert "already exists" in shop.kube.run("logs", "--namespace", "shop", job)
        _still_serves(shop, serving)
    finally:
        shop.sql("UPDATE django_migrations SET name = '0001_initial' WHERE app = 'reports' AND name = 'hidden'")


def test_an_image_that_is_absent_leaves_the_old_pods_serving_and_a_rollback_is_clean(shop: System) -> None:
    serving, values = _serving(shop), shop.values()
    values["image"]["tag"] = "absent"
    said = shop.install("shop", "shop", "shop", values, "--wait", "--timeout", "15s", check=False)
    assert "UPGRADE FAILED" in said
    wait_for(lambda: "ErrImageNeverPull" in _waiting(shop.kube), "a new pod says that its image is not there")
    _still_serves(shop, serving)
    shop.kube.helm("rollback", "shop", _deployed(shop), "--namespace", "shop", "--wait", "--timeout", "5m")
    assert _serving(shop) == serving, "pods that served all the time were replaced"
    assert _waiting(shop.kube) == ""
    shop.settled()


def test_a_change_that_the_api_server_refuses_is_taken_back_once_its_jobs_are_gone(shop: System) -> None:
    """Helm then removes nothing: Jobs of the revision before are left, which the manifest of the refused one lacks."""
    serving, values = _serving(shop), shop.values()
    values["postgresql"]["persistence"] = {"enabled": True}
    said = shop.install("shop", "shop", "shop", values, "--timeout", "2m", check=False)
    assert 'cannot patch "shop-postgresql"' in said, said
    back = ("rollback", "shop", _deployed(shop), "--namespace", "shop", "--wait", "--timeout", "5m")
    assert "no Job with the name" in shop.kube.helm(*back, check=False)
    shop.kube.run("delete", "jobs", "--namespace", "shop", "--selector", "app.kubernetes.io/instance=shop")
    shop.kube.helm(*back)
    assert _serving(shop) == serving, "pods that served all the time were replaced"
    shop.settled()


def test_a_missing_secret_of_the_application_is_named_and_taken_up_once_it_is_there(shop: System) -> None:
    serving, values = _serving(shop), shop.values()
    values["app"] |= {"generateSecret": False, "existingSecret": "absent"}
    shop.install("shop", "shop", "shop", values, "--timeout", "2m")
    said = 'CreateContainerConfigError: secret "absent" not found'
    wait_for(lambda: said in _waiting(shop.kube), "a new pod says which Secret is missing")
    _still_serves(shop, serving)
    made = {"secret-key": secrets.token_urlsafe(50), "api-tokens": secrets.token_urlsafe(40)}
    shop.secret("shop", "absent", made)
    shop.kube.rolled_out("shop", *(f"deployment/shop-{name}" for name in (*DOES_WITHOUT, *NEEDS_KAFKA)))
    assert _waiting(shop.kube) == ""
    assert serving.isdisjoint(_serving(shop))
    shop.traffic(5, 2)
    shop.settled()
    # Whoever needs the shop next waits for it.
    shop.install("shop", "shop", "shop", shop.values(), "--timeout", "2m")
    shop.kube.run("delete", "secret", "absent", "--namespace", "shop")


def _deployed(shop: System) -> str:
    """Return the revision to go back to."""
    history = json.loads(shop.kube.helm("history", "shop", "--namespace", "shop", "--output", "json"))
    [good] = [str(one["revision"]) for one in history if one["status"] == "deployed"]
    return good


def _serving(shop: System) -> set[str]:
    """Return the pods that serve people and execute tasks, by their unique names."""
    roles = "taskbridge.dev/role in (web, celery, worker, relay)"
    return {str(pod["metadata"]["uid"]) for pod in shop.kube.pods("shop", roles) if is_ready(pod)}


def _still_serves(shop: System, serving: set[str]) -> None:
    assert serving <= _serving(shop)
    shop.traffic(5, 2)
    shop.settled()
    assert serving <= _serving(shop)


def _missing_secrets(kube: Kube) -> set[str]:
    """Return the Secrets that pods are said to wait for."""
    events = kube.get("events", "shop", "--field-selector", "reason=FailedMount")["items"]
    found = {str(one["message"]).partition('secret "')[2].partition('" not found')[0] for one in events}
    return found - {""}


def _preflight(kube: Kube, component: str) -> str:
    selector = f"app.kubernetes.io/component={component}"
    options = ("--container", "preflight", "--tail", "-1")
    return kube.run("logs", "--namespace", "shop", "--selector", selector, *options, check=False)


def _statuses(kube: Kube, kind: str) -> list[dict[str, Any]]:
    return [one for pod in kube.pods("shop") for one in pod["status"].get(kind, [])]


def _endings(kube: Kube, container: str) -> str:
    """Return what init containers of that name said last when they failed."""
    states = [
        one[state].get("terminated", {}).get("message", "")
        for one in _statuses(kube, "initContainerStatuses")
        if one["name"] == container
        for state in ("state", "lastState")
    ]
    return "\n".join(states)


def _waiting(kube: Kube) -> str:
    """Return why containers do not start: reasons, each with what is said of it."""
    containers = _statuses(kube, "initContainerStatuses") + _statuses(kube, "containerStatuses")
    states = [one["state"].get("waiting", {}) for one in containers]
    chosen = [one for one in states if one.get("reason", "") not in {"", "PodInitializing", "ContainerCreating"}]
    return "\n".join(sorted({f"{one['reason']}: {one.get('message', '')}" for one in chosen}))

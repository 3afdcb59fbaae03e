"""What people and programs get wrong: said in one sentence, and nothing is lost or half done."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from taskbridge.adapters.kafka.cluster import Cluster
from taskbridge.settings import KafkaSettings
from tests.integration.faults.scene import Scene
from tests.project.harness import Console, Project, wait_for

pytestmark = pytest.mark.services

REFUSED = {
    ("nonsense", "mirror"): "there is no service 'nonsense'; TASKBRIDGE names: elsewhere, work",
    ("work", "sideways"): "there is no stage 'sideways'; stages are off, mirror, shadow, live, complete",
    ("work", "live"): "live needs --percent between 0.01 and 100, for example --percent 1",
    ("work", "live", "--percent", "101"): "101 is not a percentage between 0.01 and 100",
    ("work", "live", "--percent", "nan"): "nan is not a percentage between 0.01 and 100",
    ("work", "mirror", "--percent", "5"): "a percentage belongs to shadow and live; mirror always means every message",
}
ANNOTATIONS = {"bridged.tasks.keyed": {"rate_limit": "10/m"}, "bridged.tasks.echo": {"priority": 3}}

Commands = dict[tuple[str, ...], "Future[subprocess.CompletedProcess[str]]"]


@pytest.fixture(scope="module")
def commands(scene: Scene) -> Iterator[Commands]:
    """All the refused commands, in the background: each of them mostly imports."""
    scene.move("live")
    with ThreadPoolExecutor(2) as pool:
        yield {words: pool.submit(scene.project.cli, "cutover", *words, check=False) for words in REFUSED}


@pytest.fixture(scope="module")
def console(scene: Scene, commands: Commands) -> Iterator[Console]:
    """A process that dispatches; whether to Kafka or Celery, nobody takes it up yet."""
    return scene.project.console()


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_a_cutover_that_makes_no_sense(commands: Commands, words: tuple[str, ...]) -> None:
    done = commands[words].result()
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {REFUSED[words]}\n")


def test_a_topic_with_another_number_of_partitions(scene: Scene) -> None:
    admin = AdminClient({"bootstrap.servers": scene.kafka.url})
    name = f"{scene.project.prefix}.elsewhere"
    Cluster(KafkaSettings(scene.kafka.url), timeout=60.0).create([NewTopic(name, 3, 1)])
    for words in (("cutover", "elsewhere", "mirror"), ("topics",)):
        done = scene.project.cli(*words, check=False)
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert f"topic {name} has 3 partitions" in line
    topics = admin.list_topics(timeout=60).topics
    assert len(topics[name].partitions) == 3
    assert f"{name}.shadow" not in topics, "nothing was created beside it"


def test_what_the_worker_does_not_offer_is_refused_by_name(scene: Scene) -> None:
    project = scene.project
    project.cli("cutover", "work", "mirror")
    other = Project(
        project.directory, project.prefix, {**project.environment}, BRIDGED_ANNOTATIONS=json.dumps(ANNOTATIONS)
    )
    done = other.cli("cutover", "work", "live", "--percent", "10", "--override", "--reason", "a test", check=False)
    project.cli("cutover", "work", "live", "--percent", "100", "--override", "--reason", "a test")
    assert done.returncode == 2
    assert done.stderr == (
        "error: work cannot go to live 10%: bridged.tasks.echo uses priority=3: remove the priority, or leave its "
        "service in mirror; bridged.tasks.keyed uses rate_limit='10/m': remove the rate limit, or leave its service in "
        "mirror\n"
    )


def settled(console: Console, stage: str) -> None:
    """Wait until the dispatching process knows the stage."""
    wait_for(lambda: console.ask("str(bridge.flags.get('work').stage)") == stage, stage, interval=0.1)


def test_arguments_that_do_not_serialize_are_sent_nowhere(scene: Scene, console: Console) -> None:
    settled(console, "live")
    before = (scene.queued(), len(scene.records(scene.topic)), console.counters())
    error = console.error("dispatch('add', 1, object(), 2)")
    assert error.startswith("EncodeError: ")
    assert "not JSON serializable" in error
    assert (scene.queued(), len(scene.records(scene.topic)), console.counters()) == before


def test_in_live_pickle_goes_to_celery_and_what_is_too_large_is_refused(scene: Scene, console: Console) -> None:
    settled(console, "live")
    queued, records, counted = scene.queued(), len(scene.records(scene.topic)), console.counters()
    console.dispatch("add", 1, 1, 2, serializer="pickle")
    error = console.error("dispatch('echo', 1, 'x' * 1_100_000)")
    assert error.startswith("MessageTooLarge: task bridged.tasks.echo[")
    assert 'exceeds TASKBRIDGE["max_message_bytes"], 1,000,000;' in error
    assert scene.queued() == queued + 1
    assert len(scene.records(scene.topic)) == records
    assert console.counters() - counted == {"celery": 1, "unsupported": 1}


def test_a_task_that_no_worker_knows_is_dead_lettered_and_its_caller_told(scene: Scene, console: Console) -> None:
    settled(console, "live")
    scene.project.kafka_worker(processes=1)
    error = console.error("app.send_task('bridged.tasks.of_tomorrow', (1,)).get(timeout=80)")
    assert error == "NotRegistered: 'bridged.tasks.of_tomorrow'"
    wait_for(lambda: scene.records(f"{scene.topic}.dlq"), "the dead letter")
    [(_, headers)] = scene.records(f"{scene.topic}.dlq")
    assert headers["dlq-reason"] == "unknown_task"
    assert "is the worker's code older than the dispatcher's?" in headers["dlq-detail"]
    scene.wait_until_committed()


def test_in_mirror_what_cannot_be_compared_still_runs_on_celery(scene: Scene, console: Console) -> None:
    scene.project.cli("cutover", "work", "mirror")
    settled(console, "mirror")
    queued, counted = scene.queued(), console.counters()
    console.dispatch("add", 1, 1, 2, serializer="pickle")
    console.ask("dispatch('echo', 1, 'x' * 1_100_000)[0][0]")
    assert console.error("dispatch('add', 1, object(), 2)").startswith("EncodeError: ")
    assert scene.queued() == queued + 2
    grown = console.counters() - counted
    assert (grown["celery"], grown["copy_sent"] + grown["copy_lost"]) == (2, 2)
    # The broker would not take it, and that is known at once.
    assert grown["copy_lost"] >= 1

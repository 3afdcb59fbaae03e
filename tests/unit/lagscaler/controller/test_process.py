"""The operator's life: start, watches that break, settings that change, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from devstack.ports import free_port
from lagscaler.bridge.client import BridgeUnreachableError
from lagscaler.controller import process
from lagscaler.controller.process import Operator
from lagscaler.kubernetes.api import KubernetesError
from lagscaler.kubernetes.kinds import CONSUMERS, DEPLOYMENTS, SCALED_OBJECTS, Kind
from lagscaler.resources.reading import Key
from lagscaler.settings import SettingsError, read_text
from tests.unit.lagscaler.builders import consumer_body, deployment_body, metadata
from tests.unit.lagscaler.fakes import Clock, FakeBridge, FakeKubernetes, FakeSampler, until

MAIN = "clusters: {main: {bootstrapServers: 'kafka:9092', namespaces: [shop]}}\n"


class Api(FakeKubernetes):
    """The API server and its watch; the operator's world is told of what is listed and watched only."""

    def __init__(self) -> None:
        super().__init__()
        self.watches: list[tuple[tuple[Kind, ...], tuple[str, ...]]] = []
        self.breaks: list[Exception] = []
        self.unlistable: dict[str, Exception] = {}
        self.lists = 0

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""

    async def every(self, kind: Kind, namespace: str | None) -> list[dict[str, Any]]:
        self.lists += 1
        if kind.name in self.unlistable:
            raise self.unlistable[kind.name]
        return await super().every(kind, namespace)

    async def create_event(self, namespace: str, event: dict[str, Any]) -> dict[str, Any]:
        return event

    async def watch(
        self, kinds: Iterable[Kind], namespaces: Iterable[str], seen: Any, stop: asyncio.Event, ready: asyncio.Event
    ) -> None:
        self.watches.append((tuple(kinds), tuple(namespaces)))
        if self.breaks:
            raise self.breaks.pop(0)
        ready.set()
        await stop.wait()


class Bridge(FakeBridge):
    """A bridge that is connected to."""

    async def __aenter__(self) -> Bridge:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""


class Play:
    """An operator with a settings file, and all around it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.api = Api()
        self.samplers: list[str] = []
        self.bridges: dict[str, Bridge] = {}
        """By URL."""
        self.port = free_port()
        self.reads = 0
        clock = Clock(1)

        def sampler(settings: Any) -> FakeSampler:
            self.samplers.append(settings.bootstrap_servers)
            return FakeSampler(clock)

        def read(path: Path) -> str:
            self.reads += 1
            return read_text(path)

        monkeypatch.setattr(process, "KubernetesApi", lambda _: self.api)
        monkeypatch.setattr(process, "watch", self.api.watch)
        monkeypatch.setattr(process, "Sampler", sampler)
        monkeypatch.setattr(process, "BridgeClient", lambda settings: self.bridges[settings.url])
        monkeypatch.setattr(process, "read_text", read)
        monkeypatch.setattr(process, "SETTINGS_EVERY", 0.02)
        monkeypatch.setattr(process, "BACKOFF", (0.01, 0.05))
        path.write_text(MAIN)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """Run it, and end it as a pod is ended."""
        self.operator = operator = Operator(self.path, "127.0.0.1", self.port)
        self.api.world = operator._world
        task = asyncio.create_task(operator.run())
        try:
            yield task
        finally:
            if not task.done():
                os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(task, 90)

    async def get(self, path: str) -> tuple[int, str]:
        """Return what it answers; 0 when it does not."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientError:
            return 0, ""

    async def settings_read(self, times: int) -> None:
        """Wait until its settings were read so many more times, and what follows from the last but one is over."""
        enough = self.reads + times + 1
        await until(lambda: self.reads >= enough, "the settings are read again")

    async def answers(self, path: str, words: str) -> None:
        """Wait until it answers with these words."""
        for _ in range(9_000):
            if words in (await self.get(path))[1]:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"{path} never said {words}")


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Play], Awaitable[None]]], None]:
    """A function that plays a story."""
    return lambda story: asyncio.run(_whole(story, Play(tmp_path / "config.yaml", monkeypatch)))


async def _whole(story: Callable[[Play], Awaitable[None]], one: Play) -> None:
    async with asyncio.timeout(200):
        await story(one)


def test_it_lists_then_watches_and_ends_when_asked(play: Any) -> None:
    async def story(one: Play) -> None:
        one.api.bodies["Deployment", Key("shop", "worker")] = deployment_body(2)
        one.api.bodies["KafkaConsumer", Key("shop", "orders")] = consumer_body(mode="Manual", replicas=3)
        async with one.running() as task:
            await until(lambda: one.api.scaled == [("worker", 3)], "it works")
            await one.answers("/readyz", "ok")
            assert not task.done()
            assert one.samplers == ["kafka:9092"]
        assert await one.get("/healthz") == (0, "")
        assert task.exception() is None

    play(story)


def test_without_its_definitions_it_waits_and_says_so(play: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def story(one: Play) -> None:
        one.api.unlistable = {"KafkaConsumer": KubernetesError(404, "the server could not find the requested resource")}
        async with one.running():
            await one.answers("/readyz", "the resources were not listed yet")
            assert (await one.get("/healthz"))[0] == 200
            await until(lambda: "install the CRDs of charts/operator" in caplog.text, "it says what to do")
            one.api.unlistable = {}
            await one.answers("/readyz", "ok")

    play(story)


def test_a_watch_that_breaks_begins_anew_after_a_list(play: Any) -> None:
    async def story(one: Play) -> None:
        one.api.breaks = [RuntimeError("the stream broke"), OSError("away")]
        async with one.running():
            await until(lambda: len(one.api.watches) == 3, "the third watch")
            await one.answers("/readyz", "ok")

    play(story)


def test_what_went_unseen_while_the_watch_was_broken_is_forgotten(play: Any) -> None:
    async def story(one: Play) -> None:
        one.api.bodies["KafkaConsumer", Key("shop", "orders")] = consumer_body()
        async with one.running():
            await one.answers("/metrics", 'lagscaler_resources{kind="KafkaConsumer"} 1.0')
            await until(lambda: one.api.world.consumers, "it is known")
            del one.api.bodies["KafkaConsumer", Key("shop", "orders")]
            one.path.write_text(MAIN + "namespaces: [shop]\n")
            await until(lambda: not one.api.world.consumers, "it is forgotten")
            await until(lambda: one.api.watches[-1][1] == ("shop",), "the watch is of the namespace")

    play(story)


def test_settings_that_change_are_followed_and_broken_ones_are_not(play: Any) -> None:
    async def story(one: Play) -> None:
        async with one.running():
            await one.answers("/readyz", "ok")
            one.path.write_text("clusters: {main: {bootstrapServers: 'other:9092'}}")
            await until(lambda: one.samplers == ["kafka:9092", "other:9092"], "the other cluster")
            one.path.write_text("clusters: [")
            await one.answers("/metrics", "lagscaler_settings_valid 0.0")
            one.path.write_text(MAIN)
            await one.answers("/metrics", "lagscaler_settings_valid 1.0")
            assert one.samplers == ["kafka:9092", "other:9092", "kafka:9092"]

    play(story)


def test_namespaces_that_may_use_a_cluster_are_followed(play: Any) -> None:
    async def story(one: Play) -> None:
        one.path.write_text(MAIN.replace("[shop]", "[other]"))
        one.api.bodies["Deployment", Key("shop", "worker")] = deployment_body(2)
        one.api.bodies["KafkaConsumer", Key("shop", "orders")] = consumer_body(mode="Manual", replicas=3)
        async with one.running():
            await until(lambda: one.api.status(CONSUMERS, "orders").get("reason") == "ClusterUnknown", "it is told")
            assert one.api.scaled == []
            one.path.write_text(MAIN)
            await until(lambda: one.api.scaled == [("worker", 3)], "it may")

    play(story)


def test_a_fault_while_resources_are_listed_ends_nothing(play: Any) -> None:
    async def story(one: Play) -> None:
        one.api.unlistable = {"KafkaConsumer": RuntimeError("a fault of ours")}
        async with one.running() as task:
            await one.answers("/readyz", "the resources were not listed yet")
            lists = one.api.lists
            await until(lambda: one.api.lists > lists + 3, "they are listed again and again")
            assert not task.done()
            one.api.unlistable = {}
            await one.answers("/readyz", "ok")

    play(story)


def test_settings_that_cannot_be_read_for_a_moment_are_told_once(play: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def story(one: Play) -> None:
        async with one.running():
            await one.answers("/readyz", "ok")
            one.path.unlink()
            await one.answers("/metrics", "lagscaler_settings_valid 0.0")
            await one.settings_read(10)
            assert caplog.text.count("cannot be read") == 1
            one.path.write_text(MAIN)
            await one.answers("/metrics", "lagscaler_settings_valid 1.0")
            assert one.samplers == ["kafka:9092"], "nothing of them changed"

    play(story)


def test_broken_settings_that_are_taken_back_are_good_again(play: Any) -> None:
    async def story(one: Play) -> None:
        async with one.running():
            await one.answers("/readyz", "ok")
            one.path.write_text("clusters: [")
            await one.answers("/metrics", "lagscaler_settings_valid 0.0")
            one.path.unlink()
            await one.settings_read(1)
            one.path.write_text("clusters: [")
            await one.settings_read(1)
            await one.answers("/metrics", "lagscaler_settings_valid 0.0")
            one.path.write_text(MAIN)
            await one.answers("/metrics", "lagscaler_settings_valid 1.0")

    play(story)


def test_settings_that_change_during_the_start_are_followed(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text

    async def story(one: Play) -> None:
        def changing(path: Path, *args: Any, **options: Any) -> str:
            text = read(path, *args, **options)
            if path == one.path and text == MAIN:
                path.write_text("clusters: {main: {bootstrapServers: 'other:9092'}}")
            return text

        monkeypatch.setattr(Path, "read_text", changing)
        async with one.running():
            await until(lambda: one.samplers[-1:] == ["other:9092"], "the other cluster")

    play(story)


def test_a_bridge_that_moves_is_remembered_and_one_that_goes_is_not(play: Any) -> None:
    async def story(one: Play) -> None:
        settings = MAIN + "bridges: {main: {url: 'http://%s', tokenFile: /token}}\n"
        one.bridges = {"http://old": Bridge(), "http://new": Bridge()}
        one.bridges["http://old"].move("live", 10)
        one.bridges["http://new"].unreachable = BridgeUnreachableError("Unreachable", "the bridge main is away")
        one.path.write_text(settings % "old")
        async with one.running():
            stage_of = one.operator._moving.stage_of
            await until(lambda: stage_of("main", "orders") == "live", "its stage is known")
            one.path.write_text(settings % "new")
            await one.answers("/metrics", 'lagscaler_bridge_up{bridge="main"} 0.0')
            assert stage_of("main", "orders") == "live"
            one.path.write_text(MAIN)
            await until(lambda: stage_of("main", "orders") is None, "it is forgotten")

    play(story)


def test_keda_is_watched_where_it_is_there(play: Any) -> None:
    async def story(one: Play) -> None:
        one.path.write_text(MAIN + "scaledObjects: true\n")
        one.api.unlistable = {SCALED_OBJECTS.name: KubernetesError(404, "no such kind")}
        async with one.running():
            await until(lambda: one.api.watches, "a watch")
            assert SCALED_OBJECTS not in one.api.watches[0][0]
            assert {CONSUMERS, DEPLOYMENTS} <= set(one.api.watches[0][0])
            one.api.unlistable = {}
            one.path.write_text(MAIN + "scaledObjects: true\nnamespaces: [shop]\n")
            await until(lambda: SCALED_OBJECTS in one.api.watches[-1][0], "it is watched")

    play(story)


@pytest.mark.parametrize("way", ["setting", "definition"])
def test_what_keda_claimed_is_forgotten_when_it_is_not_watched_any_more(play: Any, way: str) -> None:
    async def story(one: Play) -> None:
        keda = {"metadata": metadata("keda"), "spec": {"scaleTargetRef": {"name": "worker"}}}
        one.api.bodies["ScaledObject", Key("shop", "keda")] = keda
        one.api.bodies["Deployment", Key("shop", "worker")] = deployment_body(2)
        one.api.bodies["KafkaConsumer", Key("shop", "orders")] = consumer_body(mode="Manual", replicas=3)
        one.path.write_text(MAIN + "scaledObjects: true\n")
        async with one.running():
            await until(lambda: one.api.status(CONSUMERS, "orders").get("reason") == "TargetContested", "it is told")
            await one.answers("/metrics", 'lagscaler_resources{kind="ScaledObject"} 1.0')
            if way == "setting":
                one.path.write_text(MAIN)
            else:
                one.api.unlistable = {SCALED_OBJECTS.name: KubernetesError(404, "no such kind")}
                one.path.write_text(MAIN + "scaledObjects: true\nnamespaces: [shop]\n")
            await until(lambda: one.api.scaled == [("worker", 3)], "it is scaled")
            await one.answers("/metrics", 'lagscaler_resources{kind="ScaledObject"} 0.0')

    play(story)


def test_a_list_is_believed_of_what_was_replaced_even_if_its_version_is_older(play: Any) -> None:
    async def story(one: Play) -> None:
        orders = Key("shop", "orders")
        one.api.bodies["KafkaConsumer", orders] = consumer_body(meta={"resourceVersion": "500"})
        async with one.running():
            await until(lambda: one.api.world.consumers, "it is known")
            one.api.bodies["KafkaConsumer", orders] = consumer_body(meta={"uid": "heir", "resourceVersion": "9"})
            one.path.write_text(MAIN + "namespaces: [shop]\n")
            await until(lambda: one.api.world.uid(CONSUMERS, orders) == "heir", "the other one is known")

    play(story)


def test_settings_that_cannot_be_used_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Operator(tmp_path / "none.yaml", "127.0.0.1", 0)

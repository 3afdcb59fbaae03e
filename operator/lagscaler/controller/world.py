"""Everything that has been seen of Kubernetes, and who wants the same Deployment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from lagscaler.kubernetes.kinds import CONSUMERS, CUTOVERS, DEPLOYMENTS, Kind
from lagscaler.resources.consumer import KafkaConsumer, parse_consumer
from lagscaler.resources.cutover import Cutover, parse_cutover
from lagscaler.resources.reading import InvalidResourceError, Key, key_of, version_of
from lagscaler.resources.target import Claim, Target, parse_claim, parse_target
from lagscaler.settings import Settings

logger = logging.getLogger(__name__)


class World:
    """
    The resources as they were last seen; an older version of one never replaces a newer.

    What is told of one that was replaced by another of its name may come after what is told of that one, and counts for
    nothing then.

    `changed` is called with the kind and the key of each KafkaConsumer and Cutover that is to be looked at again,
    because it, its Deployment or another autoscaler changed or went.
    """

    def __init__(self, changed: Callable[[Kind, Key], None]) -> None:
        self.consumers: dict[Key, KafkaConsumer] = {}
        self.cutovers: dict[Key, Cutover] = {}
        self.targets: dict[Key, Target] = {}
        self.settings = Settings()
        """Which namespaces may use what; whoever reads the settings puts them here."""
        self._identities: dict[tuple[str, Key], tuple[str, int]] = {}
        """The uid and the newest version of everything that is there."""
        self._claims: dict[tuple[str, Key], Claim] = {}
        self._claims_of: dict[Key, set[tuple[str, Key]]] = {}
        self._consumers_of: dict[Key, set[Key]] = {}
        self._changed = changed

    def see(self, kind: Kind, happened: str | None, body: Mapping[str, Any]) -> None:
        """Take in one resource, or that it was deleted."""
        key, uid, version = key_of(body), uid_of(body), version_of(body)
        if happened == "DELETED":
            self.forget(kind, key, uid)
            return
        before, newest = self._identities.get((kind.name, key), (uid, version))
        if before != uid and version < newest:
            return
        self._identities[kind.name, key] = (uid, max(version, newest))
        if kind == CONSUMERS:
            self._see_consumer(body)
        elif kind == CUTOVERS:
            self._see_cutover(body)
        elif kind == DEPLOYMENTS:
            self._see_target(parse_target(body))
        else:
            self._see_claim(kind, body)

    def forget(self, kind: Kind, key: Key, uid: str) -> None:
        """Take in that the resource with that identity is gone; another of its name stays."""
        if self._identities.get((kind.name, key), (uid, 0))[0] != uid:
            return
        self._identities.pop((kind.name, key), None)
        if kind == CONSUMERS:
            gone = self.consumers.pop(key, None)
            if gone is not None:
                self._unlink(gone)
                self._changed(kind, key)
                self._touch(_target_key(gone))
        elif kind == CUTOVERS:
            if self.cutovers.pop(key, None) is not None:
                self._changed(kind, key)
        elif kind == DEPLOYMENTS:
            if self.targets.pop(key, None) is not None:
                self._touch(key)
        else:
            self._drop_claim((kind.name, key))

    def known(self, kind: Kind) -> dict[Key, str]:
        """Return which resources of a kind are there, with their uids."""
        return {key: uid for (name, key), (uid, _) in self._identities.items() if name == kind.name}

    def uid(self, kind: Kind, key: Key) -> str:
        """Return the uid of a resource; empty when it is not known."""
        return self._identities.get((kind.name, key), ("", 0))[0]

    def target_of(self, consumer: KafkaConsumer) -> Target | None:
        """Return the Deployment that a consumer names."""
        return self.targets.get(_target_key(consumer))

    def claims_on(self, consumer: KafkaConsumer) -> list[Claim]:
        """Return the other autoscalers of the Deployment that a consumer names."""
        found = [self._claims[name] for name in self._claims_of.get(_target_key(consumer), ())]
        return sorted(found, key=lambda one: (one.kind, one.key))

    def elder(self, consumer: KafkaConsumer) -> KafkaConsumer | None:
        """Return the oldest KafkaConsumer of the same Deployment, None when it is this one."""
        rivals = [self.consumers[key] for key in self._consumers_of.get(_target_key(consumer), ())]
        first = min(rivals, key=lambda one: one.seniority, default=consumer)
        return None if first.key == consumer.key else first

    def may_use_cluster(self, consumer: KafkaConsumer) -> bool:
        """Return whether the settings have a consumer's Kafka cluster, for its namespace too."""
        found = self.settings.clusters.get(consumer.cluster)
        return found is not None and found.admits(consumer.key.namespace)

    def may_use_bridge(self, namespace: str, name: str) -> bool:
        """Return whether the settings have a bridge, for that namespace too."""
        found = self.settings.bridges.get(name)
        return found is not None and found.admits(namespace)

    def elder_cutover(self, cutover: Cutover) -> Cutover | None:
        """
        Return the oldest Cutover of the same service of the same bridge, None when it is this one.

        One whose namespace may not use the bridge does not count, or a stranger's could keep out the owner's.
        """
        rivals = (
            one
            for one in self.cutovers.values()
            if (one.bridge, one.service) == (cutover.bridge, cutover.service)
            and self.may_use_bridge(one.key.namespace, one.bridge)
        )
        first = min(rivals, key=lambda one: one.seniority, default=cutover)
        return None if first.key == cutover.key else first

    def scaled(self, target: Target) -> None:
        """Take in what our own write made of a Deployment, unless it went meanwhile."""
        if target.key in self.targets:
            self._see_target(target)

    def _see_consumer(self, body: Mapping[str, Any]) -> None:
        try:
            consumer = parse_consumer(body)
        except InvalidResourceError as error:
            logger.error("KafkaConsumer %s is left alone: %s; update its CRD", key_of(body), error)  # noqa: TRY400
            self.forget(CONSUMERS, key_of(body), uid_of(body))
            return
        old = self.consumers.get(consumer.key)
        if old is not None and old.uid == consumer.uid and consumer.version < old.version:
            return
        if old is not None:
            self._unlink(old)
        self.consumers[consumer.key] = consumer
        self._consumers_of.setdefault(_target_key(consumer), set()).add(consumer.key)
        # Our own writes of the status come back as events, and ask for nothing.
        if old is None or (old.uid, old.generation) != (consumer.uid, consumer.generation):
            if old is not None and _target_key(old) != _target_key(consumer):
                self._touch(_target_key(old))
            self._touch(_target_key(consumer))

    def _see_cutover(self, body: Mapping[str, Any]) -> None:
        try:
            cutover = parse_cutover(body)
        except InvalidResourceError as error:
            logger.error("Cutover %s is left alone: %s; update its CRD", key_of(body), error)  # noqa: TRY400
            self.forget(CUTOVERS, key_of(body), uid_of(body))
            return
        old = self.cutovers.get(cutover.key)
        if old is not None and old.uid == cutover.uid and cutover.version < old.version:
            return
        self.cutovers[cutover.key] = cutover
        if old is None or (old.uid, old.generation) != (cutover.uid, cutover.generation):
            self._changed(CUTOVERS, cutover.key)

    def _see_target(self, target: Target) -> None:
        old = self.targets.get(target.key)
        if old is not None and target.version < old.version:
            return
        self.targets[target.key] = target
        if old is None or (old.replicas, old.selector) != (target.replicas, target.selector):
            self._touch(target.key)

    def _see_claim(self, kind: Kind, body: Mapping[str, Any]) -> None:
        name = (kind.name, key_of(body))
        claim = parse_claim(kind.name, body)
        if claim == self._claims.get(name):
            return
        self._drop_claim(name)
        if claim is not None:
            self._claims[name] = claim
            self._claims_of.setdefault(claim.target, set()).add(name)
            self._touch(claim.target)

    def _drop_claim(self, name: tuple[str, Key]) -> None:
        claim = self._claims.pop(name, None)
        if claim is not None:
            _discard(self._claims_of, claim.target, name)
            self._touch(claim.target)

    def _unlink(self, consumer: KafkaConsumer) -> None:
        _discard(self._consumers_of, _target_key(consumer), consumer.key)

    def _touch(self, target: Key) -> None:
        for key in tuple(self._consumers_of.get(target, ())):
            self._changed(CONSUMERS, key)


def uid_of(body: Mapping[str, Any]) -> str:
    """Return the identity of a resource, which another of the same name does not share."""
    return str(body["metadata"].get("uid", ""))


def _target_key(consumer: KafkaConsumer) -> Key:
    return Key(consumer.key.namespace, consumer.target)


def _discard(index: dict[Key, set[Any]], key: Key, one: Any) -> None:
    left = index.get(key, set())
    left.discard(one)
    if not left:
        index.pop(key, None)

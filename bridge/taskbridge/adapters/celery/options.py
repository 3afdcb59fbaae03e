"""What a task declares about itself: `@shared_task(bridge=TaskOptions(...))`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from taskbridge.exceptions import ConfigurationError
from taskbridge.settings import NAME, PublishMode

EffectClass = Literal["pure", "db", "external", "opaque"]
"""What a task does beside returning a value: nothing, writes to the database, calls to others, or who knows."""


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """
    The bridge's options of one task; they take precedence over patterns in the settings.

    `service` is the service that the task belongs to, `key` the name of the argument that is its business key,
    `publish` when a dispatch of it returns. `effects` declares its effect class. With `once` its effects in the
    database happen once, however often its message is delivered. Raises ConfigurationError for values that none of
    these can have.
    """

    service: str | None = None
    key: str | None = None
    publish: PublishMode | None = None
    effects: EffectClass = "opaque"
    once: bool = False

    def __post_init__(self) -> None:
        if self.service is not None and not (isinstance(self.service, str) and NAME.fullmatch(self.service)):
            raise ConfigurationError(f"TaskOptions(service={self.service!r}): name a service of TASKBRIDGE")
        if self.key is not None and not (isinstance(self.key, str) and self.key.isidentifier()):
            raise ConfigurationError(f"TaskOptions(key={self.key!r}): name one of the task's arguments")
        if self.publish is not None and self.publish not in get_args(PublishMode):
            raise ConfigurationError(f"TaskOptions(publish={self.publish!r}): use {_one_of(get_args(PublishMode))}")
        if self.effects not in get_args(EffectClass):
            raise ConfigurationError(f"TaskOptions(effects={self.effects!r}): use {_one_of(get_args(EffectClass))}")
        if not isinstance(self.once, bool):
            raise ConfigurationError(f"TaskOptions(once={self.once!r}): use True or False")


def _one_of(words: tuple[str, ...]) -> str:
    return ", ".join(words[:-1]) + f" or {words[-1]}"

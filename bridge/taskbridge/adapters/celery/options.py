"""What a task declares about itself: `@shared_task(bridge=TaskOptions(...))`."""

from __future__ import annotations

from dataclasses import dataclass

from taskbridge.exceptions import ConfigurationError
from taskbridge.settings import NAME


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """
    The bridge's options of one task; they take precedence over patterns in the settings.

    `service` is the service that the task belongs to, `key` the name of the argument that is its business key. Raises
    ConfigurationError for values that no service and no argument can have.
    """

    service: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if self.service is not None and not (isinstance(self.service, str) and NAME.fullmatch(self.service)):
            raise ConfigurationError(f"TaskOptions(service={self.service!r}): name a service of TASKBRIDGE")
        if self.key is not None and not (isinstance(self.key, str) and self.key.isidentifier()):
            raise ConfigurationError(f"TaskOptions(key={self.key!r}): name one of the task's arguments")

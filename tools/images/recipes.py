"""Which images there are, and what each is made of besides its Containerfile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from images.errors import ImagesError

__all__ = ["RECIPES", "ROOT", "Recipe", "choose"]

ROOT = Path(__file__).resolve().parents[2]
"""The checkout, out of which sources are copied."""


@dataclass(frozen=True)
class Recipe:
    """One image."""

    name: str
    """What is built from `images/<name>/Containerfile`, and the image's name after `taskbridge/`."""

    purpose: str
    """A phrase for lists."""

    needs_python: bool = False
    """Whether the base has to bring Python along."""

    jars: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Maven projects, relative to the checkout, by the name under which the Containerfile copies their jars."""

    @property
    def containerfile(self) -> Path:
        """Where its Containerfile is."""
        return ROOT / "images" / self.name / "Containerfile"


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            Recipe("shop", "the reference system: web, workers, relay, commands", needs_python=True),
            Recipe("operator", "what scales consumers by lag and carries requests to the bridge", needs_python=True),
            Recipe(
                "kafka",
                "one Kafka broker or Connect worker, for tests",
                jars=MappingProxyType({"server": "images/kafka/pom.xml", "plugins": "images/kafka/plugins.xml"}),
            ),
            Recipe("postgres", "one PostgreSQL server, for tests"),
            Recipe("redis", "one Redis server, for tests"),
        )
    }
)


def choose(names: tuple[str, ...]) -> list[Recipe]:
    """Return the recipes of these names, each once, or all of them; raises ImagesError for an unknown name."""
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        raise ImagesError(f"There is no image {unknown[0]!r}: there are {', '.join(RECIPES)}.")
    return [RECIPES[name] for name in dict.fromkeys(names or tuple(RECIPES))]

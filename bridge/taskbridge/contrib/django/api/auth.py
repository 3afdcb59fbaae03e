"""Who calls: clients of the HTTP API, by the files of a folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path

from taskbridge.exceptions import ConfigurationError

logger = logging.getLogger(__name__)

SHORTEST = 32
"""Characters of a token, below which it could be guessed: such a file is not looked at."""

READ_ONLY = ".read"
"""How the name of a file ends whose client may look and not move."""


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody with a token; `who` is the name for the audit."""

    who: str
    may_move: bool


def client_of(folder: str, authorization: str) -> Client | None:
    """
    Return whose token an `Authorization` header carries, None for nobody's.

    A file's name is who, its content the token; a name that ends in `.read` grants reading only. Files are read at
    every request, so that a token is valid as long as its file stands there; names that begin with a dot are left out,
    because a mounted Kubernetes secret keeps its versions under such names. Raises ConfigurationError when the folder
    cannot be read.
    """
    scheme, _, given = authorization.partition(" ")
    presented = given.strip().encode()
    if scheme.lower() != "bearer" or not presented:
        return None
    # Compared with every token, so that the time says nothing about which one came close.
    matches = [name for name, token in _tokens(Path(folder)) if compare_digest(presented, token)]
    if not matches:
        return None
    # One token in two files: what is granted is what both grant.
    read_only = any(name.endswith(READ_ONLY) for name in matches)
    return Client(matches[0].removesuffix(READ_ONLY), may_move=not read_only)


def _tokens(folder: Path) -> Iterator[tuple[str, bytes]]:
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    except OSError as error:
        logger.warning("the folder of API tokens, %s, cannot be read: %s", folder, error.strerror)
        raise ConfigurationError("the API's tokens cannot be read; its log says why") from error
    for path in files:
        try:
            token = path.read_bytes().strip()
        except OSError as error:
            logger.warning("the API token %s cannot be read: %s", path, error.strerror)
            continue
        if len(token) < SHORTEST:
            logger.warning("the API token %s has less than %d characters and is not accepted", path, SHORTEST)
            continue
        yield path.name, token

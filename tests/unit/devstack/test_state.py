import os
import stat

import pytest

from devstack.errors import DevstackError
from devstack.process import ProcessId
from devstack.state import ServiceState, mask, read, write


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://user:secret@127.0.0.1:5432/db", "postgresql://user:***@127.0.0.1:5432/db"),
        ("redis://:secret@127.0.0.1:6379/0", "redis://:***@127.0.0.1:6379/0"),
        ("redis://:se:cr@t@127.0.0.1:6379/0", "redis://:***@127.0.0.1:6379/0"),  # unquoted
        ("postgresql://user@127.0.0.1/db", "postgresql://user@127.0.0.1/db"),  # no password
        ("127.0.0.1:9092", "127.0.0.1:9092"),  # no login, no scheme
    ],
)
def test_a_masked_url_shows_everything_but_the_password(url, masked):
    assert mask(url) == masked


def test_what_was_written_is_read_again(tmp_path):
    services = {
        "kafka": ServiceState({"client": 1, "controller": 2}, "", ProcessId(10, 1.5), ProcessId(11, 2.5)),
        "redis": ServiceState({"client": 3}, "secret"),
    }

    write(tmp_path, services)

    assert read(tmp_path) == services


def test_only_the_owner_can_read_the_state_file(tmp_path):
    previous = os.umask(0)
    try:
        write(tmp_path, {"redis": ServiceState({"client": 3}, "secret")})
    finally:
        os.umask(previous)

    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600


def test_nothing_is_recorded_where_nothing_was_started(tmp_path):
    assert read(tmp_path) == {}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"version": 1, "services": {"redis": {}}}', '{"version": 2, "services": {}}'],
)
def test_a_foreign_state_file_is_refused_with_the_remedy(tmp_path, content):
    (tmp_path / "state.json").write_text(content)

    with pytest.raises(DevstackError, match=r"state\.json .*remove"):
        read(tmp_path)

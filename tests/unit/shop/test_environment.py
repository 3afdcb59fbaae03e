"""What is read from the environment."""

import pytest

from shop import environment
from shop.environment import EnvironmentProblem


def test_a_required_variable_is_returned_without_blanks_around_it():
    assert environment.required({"NAME": " value "}, "NAME", "an example") == "value"


@pytest.mark.parametrize("environ", [{}, {"NAME": ""}, {"NAME": "  "}])
def test_a_missing_variable_is_named_with_an_example(environ):
    with pytest.raises(EnvironmentProblem, match=r"^NAME is not set: set it to something like an example\.$"):
        environment.required(environ, "NAME", "an example")


@pytest.mark.parametrize(("word", "value"), [("1", True), ("TRUE", True), ("0", False), ("", False), ("off", False)])
def test_flags(word, value):
    assert environment.flag({"NAME": word}, "NAME") is value


def test_an_unset_flag_has_its_default():
    assert environment.flag({}, "NAME", default=True) is True


def test_a_flag_that_is_neither_yes_nor_no_is_refused():
    with pytest.raises(EnvironmentProblem, match="NAME is 'perhaps'"):
        environment.flag({"NAME": "perhaps"}, "NAME")


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "soon"])
def test_a_number_must_be_finite_and_not_negative(text):
    with pytest.raises(EnvironmentProblem, match="NAME is"):
        environment.number({"NAME": text}, "NAME", 1.0)


def test_words_are_split_at_commas_and_empty_ones_dropped():
    assert environment.words({"NAME": "a, b,,c ,"}, "NAME") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://user:p%40ss@db.example:5433/shop?sslmode=require",
            {
                "NAME": "shop",
                "USER": "user",
                "PASSWORD": "p@ss",
                "HOST": "db.example",
                "PORT": "5433",
                "OPTIONS": {"sslmode": "require"},
            },
        ),
        ("postgres://localhost/shop", {"NAME": "shop", "USER": "", "HOST": "localhost", "PORT": "", "OPTIONS": {}}),
        # A directory of sockets stands in the query.
        ("postgresql://postgres:@/postgres?host=/run/pg", {"NAME": "postgres", "HOST": "/run/pg", "OPTIONS": {}}),
        ("postgresql://[::1]:5432/shop", {"HOST": "::1", "PORT": "5432"}),
    ],
)
def test_database_urls(url, expected):
    parsed = environment.database(url)
    assert {name: parsed[name] for name in expected} == expected
    assert parsed["ENGINE"] == "django.db.backends.postgresql"


@pytest.mark.parametrize(
    "url",
    ["mysql://user:secret@host/shop", "shop", "postgresql://user:secret@host/", "postgresql://user:secret@host:x/shop"],
)
def test_an_unusable_database_url_is_refused_without_showing_its_password(url):
    with pytest.raises(EnvironmentProblem, match="DATABASE_URL") as refused:
        environment.database(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost:6379", "redis://localhost:6379/1"),
        ("redis://:secret@host:1/7", "redis://:secret@host:1/1"),
        ("rediss://host/0?ssl_cert_reqs=required", "rediss://host/1?ssl_cert_reqs=required"),
    ],
)
def test_the_number_of_a_redis_database_is_replaced(url, expected):
    assert environment.redis_database(url, 1) == expected


@pytest.mark.parametrize("url", ["http://localhost", "redis://", "localhost:6379"])
def test_an_unusable_redis_url_is_refused(url):
    with pytest.raises(EnvironmentProblem, match="REDIS_URL"):
        environment.redis_database(url, 0)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail:2525", {"EMAIL_HOST": "mail", "EMAIL_PORT": 2525, "EMAIL_USE_TLS": False}),
        ("smtp://u:p%2F@mail?starttls=1", {"EMAIL_PORT": 25, "EMAIL_HOST_PASSWORD": "p/", "EMAIL_USE_TLS": True}),
        ("smtps://mail", {"EMAIL_PORT": 465, "EMAIL_USE_SSL": True, "EMAIL_USE_TLS": False}),
        ("file:///var/mail", {"EMAIL_FILE_PATH": "/var/mail"}),
        ("memory:", {"REHEARSAL_EMAIL_BACKEND": "django.core.mail.backends.locmem.EmailBackend"}),
    ],
)
def test_email_urls(url, expected):
    assert environment.email(url).items() >= expected.items()


@pytest.mark.parametrize("url", ["mail", "file:", "smtp://", "pop3://mail"])
def test_an_unusable_email_url_is_refused(url):
    with pytest.raises(EnvironmentProblem, match="EMAIL_URL"):
        environment.email(url)

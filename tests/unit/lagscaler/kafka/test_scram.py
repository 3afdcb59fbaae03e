"""SCRAM against the examples of its standards, and against servers that are none."""

from __future__ import annotations

import pytest

from lagscaler.kafka.scram import Scram, ScramError

NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
PROOF = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SIGNATURE = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
"""The exchange in section 3 of RFC 7677."""


def login() -> Scram:
    return Scram("SCRAM-SHA-256", "user", "pencil", NONCE)


def test_the_example_of_rfc_7677() -> None:
    one = login()
    assert one.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert one.final(SERVER) == PROOF
    one.verify(SIGNATURE)


def test_a_server_that_does_not_know_the_password_is_not_believed() -> None:
    one = login()
    one.final(SERVER)
    with pytest.raises(ScramError, match="does not know"):
        one.verify(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    with pytest.raises(ScramError, match="does not know"):
        one.verify(b"")
    with pytest.raises(ScramError, match="does not know"):
        one.verify("v=é".encode())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff\xfe",
        b"e=other-error",
        b"r=someoneElse,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        SERVER.replace(b"i=4096", b"i=many"),
        SERVER.replace(b"i=4096", b"i=0"),
        SERVER.replace(b"i=4096", b"i=4095"),
        SERVER.replace(b"i=4096", b"i=2000000000"),
        SERVER.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s=W2"),
    ],
)
def test_what_is_not_the_answer_to_this_login_is_refused(answer: bytes) -> None:
    with pytest.raises(ScramError):
        login().final(answer)


def test_names_with_the_separators_are_quoted() -> None:
    assert Scram("SCRAM-SHA-512", "a=b,c", "p", NONCE).first() == b"n,,n=a=3Db=2Cc,r=rOprNGfwEbeRWgbNEkqO"


def test_every_login_has_a_nonce_of_its_own() -> None:
    assert Scram("SCRAM-SHA-512", "u", "p").first() != Scram("SCRAM-SHA-512", "u", "p").first()

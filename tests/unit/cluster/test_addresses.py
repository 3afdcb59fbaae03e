"""Clusters side by side have different addresses."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from cluster.addresses import NODES, PODS, Addresses, choose, identity
from cluster.errors import ClusterError


def test_a_cluster_gets_the_same_addresses_again() -> None:
    name = identity(Path("/somewhere/cluster"))
    assert choose(name, []) == choose(name, [])
    assert identity(Path("/somewhere/else")) != name


def test_addresses_that_are_taken_are_passed_over() -> None:
    first = choose("00000003e8", [])
    assert first.slot == 1000
    link = IPv4Network(f"{first.block[0]}/30")
    assert choose("00000003e8", [link]).slot == 1001
    assert choose("00000003e8", [link, Addresses(1001).block]).slot == 1002


def test_the_last_slot_is_followed_by_the_first() -> None:
    assert choose("fff", [Addresses(4095).block]).slot == 0


def test_a_route_to_nearly_everything_takes_nothing() -> None:
    assert choose("5", [IPv4Network("10.0.0.0/8")]).slot == 5


def test_when_all_is_taken_the_sentence_says_what_to_do() -> None:
    with pytest.raises(ClusterError, match=r"in use on this machine .* take down a cluster first"):
        choose("5", [IPv4Network("10.201.0.0/16")])


def test_both_links_lie_in_the_block_and_apart() -> None:
    addresses = Addresses(17)
    outer, inner = (IPv4Network(f"{one}/30", strict=False) for one in (addresses.machine, addresses.node1_inner))
    assert addresses.node1 in outer
    assert addresses.node2 in inner
    assert not outer.overlaps(inner)
    assert outer.subnet_of(addresses.block)
    assert inner.subnet_of(addresses.block)


def test_the_nodes_share_the_pods_addresses() -> None:
    first, second = (Addresses.pods(node) for node in NODES)
    assert not first.overlaps(second)
    assert first.subnet_of(PODS)
    assert second.subnet_of(PODS)

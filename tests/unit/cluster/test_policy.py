"""NetworkPolicies as rules: who may reach whom, read off the rules by a small interpreter of them."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from cluster.policy import Pod, matches, ruleset

WEB = Pod("shop", "web", "10.245.0.2", {"app": "web"}, {("http", "TCP"): 8000})
WORKER = Pod("shop", "worker", "10.245.0.3", {"app": "worker", "tier": "back"}, {("metrics", "TCP"): 9000})
KAFKA = Pod("kafka", "broker", "10.245.1.2", {"app": "kafka"}, {("sasl", "TCP"): 9093})
SECOND = Pod("kafka", "broker2", "10.245.1.4", {"app": "kafka"}, {("sasl", "TCP"): 9094})
DNS = Pod("kube-system", "coredns", "10.245.0.5", {"k8s-app": "kube-dns"}, {("dns", "UDP"): 1053})
PODS = [WEB, WORKER, KAFKA, SECOND, DNS]
OUTSIDE = Pod("", "outside", "192.0.2.7")
NAMESPACES = {name: {"kubernetes.io/metadata.name": name} for name in ("shop", "kafka", "kube-system")}


def policy(spec: dict[str, Any], namespace: str = "shop") -> dict[str, Any]:
    return {"metadata": {"name": "p", "namespace": namespace}, "spec": spec}


def namespace_of(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def app(name: str) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": {"app": name}}}


def connects(rules: str, source: Pod, target: Pod, port: int, protocol: str = "tcp") -> bool:
    """Whether the rules let a new connection pass the forward hook."""
    chains = dict(re.findall(r"chain (\S+) \{\n(.*?)\n    \}", rules, re.DOTALL))
    packet = {"saddr": source.address, "daddr": target.address, "protocol": protocol, "port": port}
    for line in chains["forward"].splitlines():
        if found := re.fullmatch(r"\s*ip ([sd]addr) vmap \{ (.*) \}", line):
            jumps = dict(one.split(" : jump ") for one in found[2].split(", "))
            chain = jumps.get(str(packet[found[1]]))
            if chain is not None and not _returns(chains[chain], packet):
                return False
    return True


def _returns(chain: str, packet: dict[str, Any]) -> bool:
    for line in map(str.strip, chain.splitlines()):
        if line == "counter drop":
            return False
        condition = line.removesuffix("return").strip()
        if _holds(condition, packet):
            return True
    raise AssertionError("a chain does not end in a verdict")


def _holds(condition: str, packet: dict[str, Any]) -> bool:
    while condition:
        if found := re.match(r"ip ([sd]addr) (!= )?(?:\{ (.*?) \}|(\S+))\s*", condition):
            places = (found[3] or found[4]).split(", ")
            inside = any(ip_address(packet[found[1]]) in ip_network(place) for place in places)
            if inside == bool(found[2]):
                return False
        elif found := re.match(r"(tcp|udp|sctp) dport (\d+)(?:-(\d+))?\s*", condition):
            if packet["protocol"] != found[1] or not int(found[2]) <= packet["port"] <= int(found[3] or found[2]):
                return False
        elif found := re.match(r"meta l4proto (\S+)\s*", condition):
            if packet["protocol"] != found[1]:
                return False
        else:
            raise AssertionError(f"what is {condition!r}?")
        condition = condition[found.end() :]
    return True


ALLOWED, DENIED = True, False
CASES: list[tuple[str, list[dict[str, Any]], Pod, Pod, int, str, bool]] = [
    ("no policy", [], WEB, KAFKA, 9093, "tcp", ALLOWED),
    ("default deny, inward", [policy({"podSelector": {}})], KAFKA, WEB, 8000, "tcp", DENIED),
    ("default deny, inward, leaves outward", [policy({"podSelector": {}})], WEB, KAFKA, 9093, "tcp", ALLOWED),
    (
        "default deny of another namespace",
        [policy({"podSelector": {}}, "kube-system")],
        KAFKA,
        WEB,
        8000,
        "tcp",
        ALLOWED,
    ),
    (
        "default deny, outward",
        [policy({"podSelector": {}, "policyTypes": ["Egress"]})],
        WEB,
        KAFKA,
        9093,
        "tcp",
        DENIED,
    ),
    (
        "deny outward leaves inward",
        [policy({"podSelector": {}, "policyTypes": ["Egress"]})],
        KAFKA,
        WEB,
        8000,
        "tcp",
        ALLOWED,
    ),
    ("an empty rule allows all", [policy({"podSelector": {}, "ingress": [{}]})], OUTSIDE, WEB, 8000, "tcp", ALLOWED),
    (
        "a policy selects by label",
        [policy({"podSelector": {"matchLabels": {"app": "worker"}}})],
        KAFKA,
        WEB,
        8000,
        "tcp",
        ALLOWED,
    ),
    (
        "peer pods of the same namespace",
        [policy({"podSelector": {}, "ingress": [{"from": [app("worker")]}]})],
        WORKER,
        WEB,
        8000,
        "tcp",
        ALLOWED,
    ),
    (
        "peer pods are not those of other namespaces",
        [policy({"podSelector": {}, "ingress": [{"from": [app("kafka")]}]})],
        KAFKA,
        WEB,
        8000,
        "tcp",
        DENIED,
    ),
    (
        "peer namespace",
        [policy({"podSelector": {}, "ingress": [{"from": [namespace_of("kafka")]}]})],
        KAFKA,
        WEB,
        8000,
        "tcp",
        ALLOWED,
    ),
    (
        "peer namespace and pods, both",
        [policy({"podSelector": {}, "ingress": [{"from": [{**namespace_of("kafka"), **app("web")}]}]})],
        KAFKA,
        WEB,
        8000,
        "tcp",
        DENIED,
    ),
    (
        "an empty namespace selector is every namespace",
        [policy({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]})],
        KAFKA,
        WEB,
        8000,
        "tcp",
        ALLOWED,
    ),
    (
        "every namespace is not the outside",
        [policy({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]})],
        OUTSIDE,
        WEB,
        8000,
        "tcp",
        DENIED,
    ),
    (
        "peers are alternatives",
        [policy({"podSelector": {}, "ingress": [{"from": [app("nobody"), namespace_of("kafka")]}]})],
        KAFKA,
        WEB,
        8000,
        "tcp",
        ALLOWED,
    ),
    (
        "a numbered port",
        [policy({"podSelector": {}, "ingress": [{"ports": [{"port": 8000}]}]})],
        KAFKA,
        WEB,
        8000,
        "tcp",
        ALLOWED,
    ),
    (
        "another port",
        [policy({"podSelector": {}, "ingress": [{"ports": [{"port": 8000}]}]})],
        KAFKA,
        WEB,
        8001,
        "tcp",
        DENIED,
    ),
    (
        "another protocol",
        [policy({"podSelector": {}, "ingress": [{"ports": [{"port": 8000, "protocol": "UDP"}]}]})],
        KAFKA,
        WEB,
        8000,
        "tcp",
        DENIED,
    ),
    (
        "all ports of a protocol",
        [policy({"podSelector": {}, "ingress": [{"ports": [{"protocol": "UDP"}]}]})],
        KAFKA,
        WEB,
        4711,
        "udp",
        ALLOWED,
    ),
    (
        "a range of ports",
        [policy({"podSelector": {}, "ingress": [{"ports": [{"port": 8000, "endPort": 8002}]}]})],
        KAFKA,
        WEB,
        8002,
        "tcp",
        ALLOWED,
    ),
    (
        "beyond a range of ports",
        [policy({"podSelector": {}, "ingress": [{"ports": [{"port": 8000, "endPort": 8002}]}]})],
        KAFKA,
        WEB,
        8003,
        "tcp",
        DENIED,
    ),
    (
        "a named port, inward",
        [policy({"podSelector": {}, "ingress": [{"ports": [{"port": "http"}]}]})],
        KAFKA,
        WEB,
        8000,
        "tcp",
        ALLOWED,
    ),
    (
        "a named port that the pod does not have",
        [policy({"podSelector": {}, "ingress": [{"ports": [{"port": "grpc"}]}]})],
        KAFKA,
        WEB,
        8000,
        "tcp",
        DENIED,
    ),
    (
        "a named port, outward, is the other pod's",
        [policy({"podSelector": {}, "egress": [{"to": [namespace_of("kafka")], "ports": [{"port": "sasl"}]}]})],
        WEB,
        SECOND,
        9094,
        "tcp",
        ALLOWED,
    ),
    (
        "a named port, outward, is not a third pod's",
        [policy({"podSelector": {}, "egress": [{"to": [namespace_of("kafka")], "ports": [{"port": "sasl"}]}]})],
        WEB,
        SECOND,
        9093,
        "tcp",
        DENIED,
    ),
    (
        "a named port to anybody",
        [policy({"podSelector": {}, "egress": [{"ports": [{"port": "sasl"}]}]})],
        WEB,
        KAFKA,
        9093,
        "tcp",
        ALLOWED,
    ),
    (
        "DNS",
        [policy({"podSelector": {}, "egress": [{"to": [namespace_of("kube-system")], "ports": [
            {"port": 1053, "protocol": "UDP"}]}]})],
        WEB,
        DNS,
        1053,
        "udp",
        ALLOWED,
    ),
    (
        "an address block",
        [policy({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]})],
        OUTSIDE,
        WEB,
        8000,
        "tcp",
        ALLOWED,
    ),
    (
        "what is excepted from an address block",
        [policy({"podSelector": {}, "ingress": [{"from": [
            {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/28"]}}]}]})],
        OUTSIDE,
        WEB,
        8000,
        "tcp",
        DENIED,
    ),
    (
        "a block of IPv6 is nobody, since pods have none",
        [policy({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "::/0"}}]}]})],
        OUTSIDE,
        WEB,
        8000,
        "tcp",
        DENIED,
    ),
    (
        "a block of IPv6 beside one of IPv4",
        [policy({"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": one}} for one in (
            "::/0", "0.0.0.0/0")]}]})],
        WEB,
        OUTSIDE,
        443,
        "tcp",
        ALLOWED,
    ),
    (
        "an exception of IPv6 excepts nothing",
        [policy({"podSelector": {}, "ingress": [{"from": [
            {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["2001:db8::/64"]}}]}]})],
        OUTSIDE,
        WEB,
        8000,
        "tcp",
        ALLOWED,
    ),
    (
        "policies add up",
        [policy({"podSelector": {}}), policy({"podSelector": {}, "ingress": [{"from": [app("worker")]}]})],
        WORKER,
        WEB,
        8000,
        "tcp",
        ALLOWED,
    ),
    (
        "both ends must allow",
        [
            policy({"podSelector": {}, "egress": [{"to": [namespace_of("kafka")]}]}),
            policy({"podSelector": {}, "ingress": [{"from": [app("kafka")]}]}, "kafka"),
        ],
        WEB,
        KAFKA,
        9093,
        "tcp",
        DENIED,
    ),
    ("a pod reaches itself", [policy({"podSelector": {}})], WEB, WEB, 8000, "tcp", ALLOWED),
]  # fmt: skip


@pytest.mark.parametrize(
    ("policies", "source", "target", "port", "protocol", "expected"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_who_reaches_whom(
    policies: list[dict[str, Any]], source: Pod, target: Pod, port: int, protocol: str, expected: bool
) -> None:
    rules = ruleset(PODS, NAMESPACES, policies)
    assert connects(rules, source, target, port, protocol) is expected


def test_no_rule_names_an_address_of_ipv6() -> None:
    """Nft would refuse the rules of the whole cluster."""
    block = {"ipBlock": {"cidr": "::/0", "except": ["2001:db8::/64"]}}
    mixed = {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["2001:db8::/64", "192.0.2.0/28"]}}
    rules = ruleset([WEB], NAMESPACES, [policy({"podSelector": {}, "ingress": [{"from": [block, mixed]}]})])
    assert "::" not in rules
    assert "ip saddr 192.0.2.0/24 ip saddr != { 192.0.2.0/28 } return" in rules


def test_rules_replace_those_before_in_one_step() -> None:
    first, second, third = ruleset([], {}, []).splitlines()[:3]
    assert (first, second) == ("table inet taskbridge_policy {}", "delete table inet taskbridge_policy")
    assert third == "table inet taskbridge_policy {"


def test_what_a_pod_sends_to_its_node_is_judged_too() -> None:
    rules = ruleset(PODS, NAMESPACES, [policy({"podSelector": {}, "policyTypes": ["Egress"]})])
    inward = rules.partition("chain input {")[2]
    assert f"{WEB.address} : jump egress_10_245_0_2" in inward
    assert "daddr" not in inward


def test_the_same_objects_in_another_order_give_the_same_rules() -> None:
    policies = [policy({"podSelector": {}, "ingress": [{"from": [namespace_of("kafka")]}]})]
    assert ruleset(PODS, NAMESPACES, policies) == ruleset(PODS[::-1], NAMESPACES, policies)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"key": "app", "operator": "In", "values": ["web", "api"]}, True),
        ({"key": "app", "operator": "In", "values": ["api"]}, False),
        ({"key": "tier", "operator": "In", "values": ["back"]}, False),
        ({"key": "app", "operator": "NotIn", "values": ["web"]}, False),
        ({"key": "tier", "operator": "NotIn", "values": ["back"]}, True),
        ({"key": "app", "operator": "Exists"}, True),
        ({"key": "tier", "operator": "Exists"}, False),
        ({"key": "tier", "operator": "DoesNotExist"}, True),
        ({"key": "app", "operator": "DoesNotExist"}, False),
    ],
)
def test_label_expressions(expression: dict[str, Any], expected: bool) -> None:
    assert matches({"matchExpressions": [expression]}, {"app": "web"}) is expected


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown operator Gt"):
        matches({"matchExpressions": [{"key": "app", "operator": "Gt"}]}, {"app": "web"})

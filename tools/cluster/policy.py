"""NetworkPolicies as nftables rules: a pure translation, judged by tables of cases."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["TABLE", "Pod", "matches", "ruleset"]

TABLE = "taskbridge_policy"

Json = Mapping[str, Any]
_DIRECTIONS = {"Ingress": ("ingress", "from", "saddr"), "Egress": ("egress", "to", "daddr")}
"""policyTypes -> the field with the rules, the field with the peers, and the address of the peer."""


@dataclass(frozen=True)
class Pod:
    """A pod with an address of its own."""

    namespace: str
    name: str
    address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(name, protocol) -> number, of the containers' named ports."""


def matches(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether the label selector selects; an empty one selects all. Raises ValueError for an unknown operator."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(one, labels) for one in selector.get("matchExpressions") or [])


def _holds(expression: Json, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case unknown:
            raise ValueError(f"unknown operator {unknown} in a label selector")


def ruleset(pods: Sequence[Pod], namespaces: Mapping[str, Mapping[str, str]], policies: Iterable[Json]) -> str:
    """
    Return what `nft -f` takes to put exactly these policies into force, replacing those before.

    Every node gets the same rules: a packet between nodes passes them twice. Connections that exist stay. What a
    node itself sends to its pods is never held up (probes), what a pod sends to a node's own ports is. Raises
    ValueError, KeyError for a policy that the API server would not have accepted.
    """
    known = list(policies)
    pods = sorted(pods, key=lambda one: one.address)
    chains: list[str] = []
    jumps: dict[str, list[str]] = {kind: [] for kind in _DIRECTIONS}
    for pod in pods:
        for kind, (_, _, peer) in _DIRECTIONS.items():
            selecting = [one for one in known if _selects(one, pod, kind)]
            if not selecting:
                continue
            name = f"{kind.lower()}_{pod.address.replace('.', '_')}"
            rules = [line for policy in selecting for line in _allowed(policy, kind, pod, pods, namespaces)]
            # A pod reaches itself, by its service too, whatever the policies say.
            lines = [f"ip {peer} {pod.address} return", *dict.fromkeys(rules), "counter drop"]
            title = f"{pod.namespace}/{pod.name}: {', '.join(_name(one) for one in selecting)}"
            chains.append(f"    # {title}\n    chain {name} {{\n{_indented(lines)}    }}\n")
            jumps[kind].append(f"{pod.address} : jump {name}")
    sending, receiving = (
        f"ip {side} vmap {{ {', '.join(jumps[kind])} }}" if jumps[kind] else ""
        for kind, side in (("Egress", "saddr"), ("Ingress", "daddr"))
    )
    established = "ct state established,related accept"
    forward = ["type filter hook forward priority filter; policy accept;", established, sending, receiving]
    inward = ["type filter hook input priority filter; policy accept;", established, sending]
    return (
        f"table inet {TABLE} {{}}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n{''.join(chains)}"
        f"    chain forward {{\n{_indented(filter(None, forward))}    }}\n"
        f"    chain input {{\n{_indented(filter(None, inward))}    }}\n}}\n"
    )


def _indented(lines: Iterable[str]) -> str:
    return "".join(f"        {line}\n" for line in lines)


def _name(policy: Json) -> str:
    return str(policy["metadata"]["name"])


def _selects(policy: Json, pod: Pod, kind: str) -> bool:
    spec = policy["spec"]
    # The API server fills in the types that were left out.
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    same = policy["metadata"]["namespace"] == pod.namespace
    return same and kind in types and matches(spec.get("podSelector") or {}, pod.labels)


def _allowed(
    policy: Json, kind: str, pod: Pod, pods: Sequence[Pod], namespaces: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    """Yield the rules that let through what the policy allows to or from the pod."""
    rules, peers_field, side = _DIRECTIONS[kind]
    own = policy["metadata"]["namespace"]
    for rule in policy["spec"].get(rules) or []:
        peers = rule.get(peers_field) or []
        ports = rule.get("ports") or []
        chosen = [one for one in pods for peer in peers if _is_peer(peer, one, own, namespaces)]
        places = [*_addresses(side, chosen), *_blocks(side, [peer["ipBlock"] for peer in peers if "ipBlock" in peer])]
        if not peers:
            places = [""]
        for port in ports or [{}]:
            if not isinstance(port.get("port"), str):
                yield from (_accept(place, _number(port)) for place in places)
            elif kind == "Ingress":
                if number := _named(port, pod):
                    yield from (_accept(place, number) for place in places)
            else:
                # The name means another number on every pod that is reached.
                for target in chosen if peers else pods:
                    if number := _named(port, target):
                        yield _accept(f"ip daddr {target.address}", number)


def _is_peer(peer: Json, pod: Pod, own: str, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
    if "ipBlock" in peer:
        return False
    if (selector := peer.get("namespaceSelector")) is None:
        inside = pod.namespace == own
    else:
        inside = matches(selector, namespaces.get(pod.namespace, {}))
    return inside and matches(peer.get("podSelector") or {}, pod.labels)


def _addresses(side: str, pods: Iterable[Pod]) -> list[str]:
    found = sorted({pod.address for pod in pods})
    return [f"ip {side} {{ {', '.join(found)} }}"] if found else []


def _blocks(side: str, blocks: Iterable[Json]) -> Iterator[str]:
    """Yield the places of the blocks. Pods have no address of IPv6: nft would refuse one where only IPv4 can stand."""
    for block in blocks:
        if _is_ipv6(block["cidr"]):
            continue
        excepted = [one for one in block.get("except") or [] if not _is_ipv6(one)]
        yield f"ip {side} {block['cidr']}" + (f" ip {side} != {{ {', '.join(excepted)} }}" if excepted else "")


def _is_ipv6(cidr: str) -> bool:
    return ":" in cidr


def _number(port: Json) -> str:
    protocol = port.get("protocol", "TCP").lower() if port else ""
    if not port or "port" not in port:
        return f"meta l4proto {protocol}" if protocol else ""
    last = port.get("endPort")
    return f"{protocol} dport {port['port']}" + (f"-{last}" if last else "")


def _named(port: Json, pod: Pod) -> str:
    protocol = port.get("protocol", "TCP")
    number = pod.ports.get((port["port"], protocol))
    return f"{protocol.lower()} dport {number}" if number else ""


def _accept(place: str, port: str) -> str:
    return " ".join(filter(None, (place, port, "return")))

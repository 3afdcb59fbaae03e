"""Both CRDs: structural, described, and without a slip of YAML."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.unit.lagscaler.crds import FOLDER, completed, definition, fields, schema_of

KNOWN = {
    "type", "description", "default", "minimum", "maximum", "minLength", "maxLength", "pattern", "enum", "format",
    "properties", "items", "required", "minItems", "maxItems", "x-kubernetes-validations", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-preserve-unknown-fields",
}  # fmt: skip

PLURALS = ["kafkaconsumers", "cutovers"]


@pytest.mark.parametrize("plural", PLURALS)
@pytest.mark.parametrize("part", ["spec", "status"])
def test_every_field_has_a_type_and_a_description_and_nothing_unknown(plural: str, part: str) -> None:
    schema = schema_of(definition(plural), part)
    found = dict(fields(schema))
    assert len(found) > 5
    for path, field in {part: schema, **found}.items():
        # A comma in a sentence without quotes makes keys of its parts.
        assert set(field) <= KNOWN, path
        assert field["type"], path
        assert field["description"].endswith("."), path


@pytest.mark.parametrize("plural", PLURALS)
def test_defaults_are_within_their_limits(plural: str) -> None:
    for path, field in fields(schema_of(definition(plural), "spec")):
        default: Any = field.get("default")
        if isinstance(default, int | float) and not isinstance(default, bool):
            assert field.get("minimum", default) <= default <= field.get("maximum", default), path
        if "enum" in field and default is not None:
            assert default in field["enum"], path


@pytest.mark.parametrize("plural", PLURALS)
def test_they_outlive_the_release(plural: str) -> None:
    found = definition(plural)
    assert found["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert found["metadata"]["name"] == f"{plural}.taskbridge.dev"
    assert found["spec"]["names"]["categories"] == ["taskbridge"]
    assert found["spec"]["scope"] == "Namespaced"


@pytest.mark.parametrize("written", ["k8s", "nothing"])
def test_nothing_stalls_later_than_is_looked_back(written: str) -> None:
    """The API server holds every KafkaConsumer to it; so the defaults must, and what we give people to apply."""
    found = definition("kafkaconsumers")
    rules = [rule["rule"] for rule in schema_of(found, "spec")["x-kubernetes-validations"]]
    assert "self.capacity.windowSeconds >= self.stall.afterSeconds" in rules
    example = yaml.safe_load((FOLDER.parents[3] / "k8s" / "operator" / "kafkaconsumer.yaml").read_text())
    spec = completed(found, example["spec"] if written == "k8s" else {})
    assert spec["capacity"]["windowSeconds"] >= spec["stall"]["afterSeconds"]


@pytest.mark.parametrize("plural", PLURALS)
def test_every_rule_has_a_sentence(plural: str) -> None:
    schema = schema_of(definition(plural), "spec")
    rules = [rule for field in (schema, *(field for _, field in fields(schema)))
             for rule in field.get("x-kubernetes-validations", [])]  # fmt: skip
    assert len(rules) >= 5
    assert all(len(rule["message"]) > 10 for rule in rules)

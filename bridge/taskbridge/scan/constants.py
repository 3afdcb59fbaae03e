"""Values that the source writes out: texts, numbers, durations."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

NOT_CONSTANT = object()
"""Stands for a value that only the running program knows."""

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}

_SECONDS = {
    "weeks": 604_800.0,
    "days": 86_400.0,
    "hours": 3_600.0,
    "minutes": 60.0,
    "seconds": 1.0,
    "milliseconds": 0.001,
    "microseconds": 0.000_001,
}
_TIMEDELTA = ("days", "seconds", "microseconds", "milliseconds", "minutes", "hours", "weeks")


def value(node: ast.expr, names: Mapping[str, ast.expr]) -> Any:
    """
    Return the constant that an expression is, or NOT_CONSTANT.

    `names` are the module's assignments; a name that stands for another constant is followed.
    """
    return _value(node, names, 8)


def _value(node: ast.expr, names: Mapping[str, ast.expr], depth: int) -> Any:
    if not depth:
        return NOT_CONSTANT
    match node:
        case ast.Constant(value=constant):
            return constant
        case ast.Name(id=name) if name in names:
            return _value(names[name], names, depth - 1)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _value(operand, names, depth - 1)
            return -inner if isinstance(inner, int | float) else NOT_CONSTANT
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            one, two = _value(left, names, depth - 1), _value(right, names, depth - 1)
            if isinstance(one, int | float) and isinstance(two, int | float) and (two or not isinstance(op, ast.Div)):
                return _OPERATORS[type(op)](one, two)
    return NOT_CONSTANT


def seconds(node: ast.expr, names: Mapping[str, ast.expr]) -> float | None:
    """
    Return how long an expression waits: a number, a `timedelta`, or some present time plus a `timedelta`.

    Returns None where that is not written out.
    """
    found = value(node, names)
    if isinstance(found, int | float) and not isinstance(found, bool):
        return float(found)
    match node:
        case ast.Name(id=name) if name in names and not isinstance(names[name], ast.Name):
            return seconds(names[name], {key: at for key, at in names.items() if key != name})
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _timedelta(right, names) if _timedelta(right, names) is not None else _timedelta(left, names)
        case _:
            return _timedelta(node, names)


def _timedelta(node: ast.expr, names: Mapping[str, ast.expr]) -> float | None:
    match node:
        case ast.Call(func=ast.Name(id="timedelta") | ast.Attribute(attr="timedelta"), args=args, keywords=keywords):
            total = 0.0
            parts = [*zip(_TIMEDELTA, args, strict=False), *((item.arg, item.value) for item in keywords)]
            for unit, part in parts:
                count = value(part, names)
                if unit not in _SECONDS or not isinstance(count, int | float):
                    return None
                total += count * _SECONDS[unit]
            return total
    return None

"""Signatures, and what is made of them."""

from __future__ import annotations

from typing import Any

from celery import chain, chord, chunks, group, signature, xmap, xstarmap
from celery.canvas import StampingVisitor

from .table import SPECIAL, path

# Signatures


@path("a signature", again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.s(mark, 1, two=2).apply_async()


@path("a signature, immutable", again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.si(mark, 1).apply_async((9, 9), {"ignored": 9})


@path("a signature, partial", again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.s(mark).apply_async((9,), {"three": 3}, shadow="partial")


@path("a signature, cloned", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    first = w.seen.s(mark, 1).set(headers={"a": "b"})
    first.clone((2,), {"three": 3}).set(time_limit=50).delay()
    return first.delay()


@path("a signature out of its dict", again=True)
def _(w: Any, mark: str) -> Any:
    return signature(dict(w.seen.s(mark, 1).set(queue=SPECIAL)), app=w.seen.app).delay()


@path("a signature by name", again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.app.signature("bridged.witnesses.seen", (mark,), countdown=0.2).delay()


@path("a signature, stamped", runs=2)
def _(w: Any, mark: str) -> Any:
    stamped = w.seen.s(mark).set(link=w.seen.si(mark, "linked"))
    # One stamp: the order of several is that of a set.
    stamped.stamp(many=["a", "b"])
    return stamped.apply_async()


class Everything(StampingVisitor):
    """Stamps each part of a canvas with its kind."""

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"on": sig.task, "stamped_headers": ["on"]}

    def on_chord_header_start(self, sig: Any, **header: Any) -> dict[str, Any]:
        return super().on_chord_header_start(sig, **header)


@path("a canvas, stamped by a visitor", runs=5)
def _(w: Any, mark: str) -> Any:
    canvas = chain(w.seen.si(mark, "first"), group(w.seen.si(mark), w.seen.si(mark)), w.summing.s(mark))
    canvas |= w.seen.si(mark, "last")
    canvas.stamp(visitor=Everything())
    return canvas.apply_async()


# Canvas. The body of a chord is the child of whichever part ends last: where the parts differ, one of them is late.


@path("chain", runs=3)
def _(w: Any, mark: str) -> Any:
    return chain(w.seen.s(mark), w.seen.s(mark, "second"), w.seen.si(mark, "third"))()


@path("chain with options", runs=3)
def _(w: Any, mark: str) -> Any:
    steps = chain(w.seen.s(mark), w.seen.s(mark, "second").set(queue=SPECIAL, shadow="second"))
    return steps.apply_async(countdown=0.3, link=w.seen.s(mark, "linked"), headers={"a": "b"}, expires=3600)


@path("chain of chains", runs=4)
def _(w: Any, mark: str) -> Any:
    return (w.seen.s(mark) | (w.seen.s(mark, 2) | w.seen.s(mark, 3)) | w.seen.s(mark, 4)).delay()


@path("chain with a failure", runs=3)
def _(w: Any, mark: str) -> Any:
    steps = chain(w.seen.s(mark), w.failing.si(mark), w.seen.s(mark, "never"))
    return steps.apply_async(link_error=w.told.s(mark=mark)).parent


@path("group", runs=3, again=True)
def _(w: Any, mark: str) -> Any:
    return group(w.seen.s(mark, number) for number in range(3))()


@path("group with options", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    return group(w.seen.s(mark, 1), w.seen.s(mark, 2)).apply_async((9,), {"k": 1}, countdown=0.3, queue=SPECIAL)


@path("group of chains and groups", runs=5)
def _(w: Any, mark: str) -> Any:
    inner = group(w.seen.si(mark, "a"), w.seen.si(mark, "b"))
    return group(chain(w.seen.si(mark, 1), w.seen.si(mark, 2)), inner, w.seen.si(mark, 3))()


@path("chord", runs=4)
def _(w: Any, mark: str) -> Any:
    return chord([w.seen.s(mark)] * 3)(w.summing.s(mark))


@path("chord of one", runs=2)
def _(w: Any, mark: str) -> Any:
    return chord([w.seen.s(mark)])(w.summing.s(mark))


@path("chord with options", runs=4)
def _(w: Any, mark: str) -> Any:
    body = w.summing.s(mark).set(shadow="body", link=w.seen.s(mark, "linked"))
    return chord([w.seen.s(mark), w.seen.s(mark)], body).apply_async(countdown=0.3, queue=SPECIAL)


@path("chord of chords", runs=6)
def _(w: Any, mark: str) -> Any:
    inner = chord([w.seen.si(mark, 1), w.seen.si(mark, 1)], w.summing.s(mark))
    return chord([inner, w.seen.si(mark, 3), w.seen.si(mark, 4).set(countdown=1.5)], w.summing.s(mark))()


@path("chord in a chain", runs=6)
def _(w: Any, mark: str) -> Any:
    steps = w.seen.si(mark, 1) | group(w.seen.s(mark, 2), w.seen.s(mark, 2)) | w.summing.s(mark)
    return (steps | w.seen.s(mark, 4) | w.seen.s(mark, 5)).delay()


@path("chord with a failure", runs=3)
def _(w: Any, mark: str) -> Any:
    body = w.summing.s(mark).on_error(w.told.s(mark=mark))
    return chord([w.seen.si(mark, 1), w.failing.si(mark).set(countdown=1)])(body)


@path("chord with a failing body", runs=3)
def _(w: Any, mark: str) -> Any:
    body = w.failing.s(mark).on_error(w.told.s(mark=mark))
    return chord([w.seen.si(mark)])(body)


@path("map", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.map([[mark, 1], [mark, 2]]).apply_async()


@path("starmap", runs=2, again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.starmap([(mark, 1), (mark, 2)]).apply_async(countdown=0.2)


@path("xmap and xstarmap", runs=3, again=True)
def _(w: Any, mark: str) -> Any:
    xstarmap(w.seen.s(), [(mark, 1)], app=w.seen.app).delay()
    return xmap(w.seen.s(), [[mark, 2], [mark, 3]], app=w.seen.app).delay()


@path("chunks", runs=5, again=True)
def _(w: Any, mark: str) -> Any:
    return w.seen.chunks(((mark, number) for number in range(5)), 2)()


@path("chunks as a group", runs=3, again=True)
def _(w: Any, mark: str) -> Any:
    return chunks(w.seen.s(), [(mark, number) for number in range(3)], 2, app=w.seen.app).group().apply_async()


@path("add_to_chord", runs=4)
def _(w: Any, mark: str) -> Any:
    return chord([w.adding.si(mark), w.seen.si(mark, 2)])(w.summing.s(mark))


for _by, _runs in {"task": 2, "chain": 3, "group": 3, "linked": 3}.items():

    @path(f"replace by a {_by}", runs=_runs)
    def _(w: Any, mark: str, by: str = _by) -> Any:
        return w.replacing.delay(mark, by)


@path("replace within a chain", runs=5)
def _(w: Any, mark: str) -> Any:
    return chain(w.seen.si(mark, 1), w.replacing.si(mark, "chain"), w.seen.s(mark, "after"))()

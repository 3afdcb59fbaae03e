"""
Orders over HTTP and looks at what was ordered, until a line comes in; then says what was placed, and what failed.

Each request has a connection of its own, so that each is a new choice of a pod, and is made once: whatever fails shows.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any
from uuid import uuid4

import httpx

HEADERS = {"Authorization": f"Bearer {os.environ['SHOP_API_TOKENS'].split(',')[0]}"}
WANTED = {"customer": "C000001", "lines": [{"sku": "P00001", "quantity": 1}]}
LOOKS = 4

placed: list[str] = []
failed: list[str] = []


def ask(method: str, path: str, expected: int, **content: Any) -> httpx.Response | None:
    try:
        answer = httpx.request(method, sys.argv[1] + path, timeout=30, trust_env=False, **content)
    except httpx.TransportError as problem:
        failed.append(f"{method} {path}: {problem!r}")
        return None
    if answer.status_code != expected:
        failed.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return None
    return answer


ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
print("begun", flush=True)
while not ended.is_set():
    key = {"Idempotency-Key": str(uuid4())}
    if answer := ask("POST", "/api/orders/", 201, json=WANTED, headers={**HEADERS, **key}):
        placed.append(answer.json()["id"])
        for _ in range(LOOKS):
            if not ended.wait(0.2):
                ask("GET", f"/api/orders/{placed[-1]}/", 200, headers=HEADERS)
    ended.wait(0.2)
print(json.dumps({"placed": placed, "failed": failed}))

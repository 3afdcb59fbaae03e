"""Executors of these tests come from a fork server that has loaded all they need, as the worker's do."""

from __future__ import annotations

import multiprocessing

multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.unit.taskbridge.worker.target"])

#!/usr/bin/env python
"""Run a management command of the shop from a checkout."""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent
sys.path[:0] = [str(CHECKOUT / "apps"), str(CHECKOUT / "bridge")]

from shop.console import run  # noqa: E402

if __name__ == "__main__":
    sys.exit(run(sys.argv))

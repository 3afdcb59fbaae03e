"""Entry point of `python -m cluster`."""

from cluster.cli import main

main()

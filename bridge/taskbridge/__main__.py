"""`python -m taskbridge`."""

from taskbridge.cli import main

if __name__ == "__main__":
    main()

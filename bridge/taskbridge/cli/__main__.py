"""`python -m taskbridge.cli`."""

from taskbridge.cli import main

if __name__ == "__main__":
    main()

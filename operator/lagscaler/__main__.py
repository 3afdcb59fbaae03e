"""`python -m lagscaler`."""

from lagscaler.cli import main

if __name__ == "__main__":
    main(prog_name="python -m lagscaler")

"""
Print what a pyproject.toml on the standard input asks to be installed, with the extras named as arguments.

One requirement per line, without the project itself: what an image installs from an index, apart from the sources.
With `--extras-only` before them also without what the project itself needs.
"""

import sys
import tomllib


def main(arguments: list[str]) -> None:
    """Write the requirements; an extra that the project does not have is a KeyError, which fails the build."""
    project = tomllib.loads(sys.stdin.read())["project"]
    alone = arguments[:1] == ["--extras-only"]
    groups = [] if alone else [project["dependencies"]]
    groups += [project["optional-dependencies"][extra] for extra in arguments[alone:]]
    sys.stdout.writelines(f"{requirement}\n" for group in groups for requirement in group)


if __name__ == "__main__":
    main(sys.argv[1:])

"""The project's own definitions of resources, as charts/operator renders them."""

from pathlib import Path

import yaml

from charts.render import documents, find, render

__all__ = ["write_definitions"]


def write_definitions(folder: Path) -> Path:
    """
    Write the CustomResourceDefinitions of charts/operator into a folder, a file for each, and return the folder.

    Raises ChartsError when the chart cannot be rendered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chart = find("operator")
    values = chart.scenario("minimal").values
    for document in documents(render(chart, [values] if values else [])):
        if document["kind"] == "CustomResourceDefinition":
            (folder / f"{document['metadata']['name']}.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder

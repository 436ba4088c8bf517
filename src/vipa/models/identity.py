"""Which model this is: its name, and its weights by their content."""

from pathlib import Path


def model_name(model: str | Path) -> str:
    """`stage1` for both nano:stage1 and runs/x/stage1/model."""
    path = Path(str(model).rpartition(":")[2])
    return path.parent.name if path.name == "model" else path.name

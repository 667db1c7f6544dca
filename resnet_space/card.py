"""The model card of a run: its `README.md`, generated from its configuration and metrics."""

from resnet_space.runs import CARD, Run, replaced_atomically


def write_card(run: Run) -> None:
    """Write or replace the run's card."""
    with replaced_atomically(run.path / CARD) as file:
        file.write_text(f"# {run.name}\n", encoding="utf-8")

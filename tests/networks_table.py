"""The tables of docs/networks.md, from the registry: `python -m tests.networks_table` writes them anew."""

from pathlib import Path

from resnet_space.hub.pretrained import TORCHVISION
from resnet_space.models.registry import Entry, Pretrained, entries

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
BEGIN, END = "<!-- the registry's: python -m tests.networks_table -->\n", "<!-- end -->\n"


def tables() -> str:
    found = entries(trains=False).values()
    networks = [_row(entry) for entry in sorted(found, key=lambda entry: (entry.year, entry.family))]
    weights = [_weights_row(entry, known) for entry in found for known in entry.pretrained]
    return (
        "| network | name | year | paper | built by | pixels | parameters | multiply-adds | MB |\n"
        "|---|---|---|---|---|---|---|---|---|\n" + "".join(networks) + "\n"
        "| weights | network | trained on | ImageNet top-1 | licence | from |\n"
        "|---|---|---|---|---|---|\n" + "".join(weights)
    )


def page() -> str:
    """The page with these tables."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + "\n" + tables() + "\n" + END + rest.partition(END)[2]


def _row(entry: Entry) -> str:
    paper = f"[{entry.paper.split('/')[-1]}]({entry.paper})"
    source = {"resnet_space": "this package"}.get(entry.source, entry.source)
    size = f"{entry.parameters / 1e6:,.2f} M | {(entry.multiply_adds or 0) / 1e6:,.0f} M | {entry.megabytes:.3g}"
    only = "" if entry.trains else ", Explore only"
    return f"| {entry.title} | `{entry.name}` | {entry.year} | {paper} | {source}{only} | {entry.pixels} | {size} |\n"


def _weights_row(entry: Entry, known: Pretrained) -> str:
    accuracy = "" if known.accuracy is None else f"{100 * known.accuracy:.1f} %"
    hub = not known.repo_id.startswith(TORCHVISION)
    where = f"[{known.repo_id}](https://huggingface.co/{known.repo_id})" if hub else known.repo_id.replace(":", "'s ")
    return f"| `{known.name}` | `{entry.name}` | {known.trained_on} | {accuracy} | {known.licence} | {where} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

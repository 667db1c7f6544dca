"""That the documents name all that there is, and nothing that is gone."""

import ast
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from resnet_space.models.registry import entries
from resnet_space.serve.launch import parsed_options
from resnet_space.training.objectives import OBJECTIVES
from resnet_space.training.strategies import STRATEGIES
from resnet_space.ui import AppContext, build_app
from tests.networks_table import page, tables

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "resnet_space"
DOCUMENTS = (ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md")))
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}
CODE = {path: path.read_text(encoding="utf-8") for path in (ROOT / "app.py", *sorted(PACKAGE.rglob("*.py")))}
OURS = re.compile(r"\bRESNET_SPACE_[A-Z_]+\b")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"`(?:python )?((?:app\.py|(?:tests|benchmarks|resnet_space|docs|checkpoints)/)[\w./-]*)")
MODULE = re.compile(r"\bpython -m ((?:resnet_space|tests)[\w.]*)")


def named(text: str) -> set[str]:
    """What stands in backticks, with what follows it left out: `--port PORT` is --port."""
    return {quoted.split()[0] for quoted in re.findall(r"`([^`\n]+)`", text) if quoted.strip()}


def environment_variables() -> set[str]:
    """Every variable that the code reads from the environment or sets there, by whatever constant it is named."""
    trees = [ast.parse(text) for text in CODE.values()]
    constants = {
        target.id: node.value.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def keys(node: ast.AST) -> Iterator[ast.expr]:
        match node:
            case ast.Subscript(value=ast.Attribute(attr="environ"), slice=key):
                yield key
            case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="environ")), args=[key, *_]):
                yield key
            case ast.Compare(left=key, comparators=[ast.Attribute(attr="environ")]):
                yield key

    names = {name for text in CODE.values() for name in OURS.findall(text)}
    for tree in trees:
        for key in (key for node in ast.walk(tree) for key in keys(node)):
            if isinstance(key, ast.Constant):
                names.add(key.value)
            elif isinstance(key, ast.Name) and key.id in constants:  # others are of VARIABLES, which are ours
                names.add(constants[key.id])
    return names


def test_the_environments_variables_are_found_in_the_code() -> None:
    assert {
        "RESNET_SPACE_MAX_EPOCHS",
        "SPACE_ID",
        "FORWARDED_ALLOW_IPS",
        "GRADIO_SERVER_PORT",
    } < environment_variables()


def test_every_environment_variable_is_in_the_hosting_page_and_each_of_ours_there_is_in_the_code() -> None:
    ours = environment_variables()
    assert sorted(ours - named(TEXTS["docs/hosting.md"])) == []
    assert {name for text in TEXTS.values() for name in OURS.findall(text)} <= ours


def test_every_option_of_the_command_line_is_in_the_hosting_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed_options(["--help"])
    options = set(re.findall(r"^ +(--[a-z-]+)", capsys.readouterr().out, re.M))
    assert "--readonly" in options
    assert {name for name in named(TEXTS["docs/hosting.md"]) if name.startswith("--")} >= options


def test_every_public_endpoint_is_in_the_readme_whose_calls_have_its_parameters(tmp_path: Path) -> None:
    async def described() -> dict[str, set[str]]:
        endpoints = build_app(AppContext(tmp_path)).get_api_info()["named_endpoints"]
        return {name: {one["parameter_name"] for one in each["parameters"]} for name, each in endpoints.items()}

    endpoints = asyncio.run(described())  # within a loop, or Gradio makes one that nobody closes
    section = TEXTS["README.md"].split("## By HTTP\n", 1)[1].split("\n## ")[0]
    called = set()
    for node in ast.walk(ast.parse(section.split("```python\n")[1].split("```")[0])):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "client.predict":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            name = ast.literal_eval(given.pop("api_name"))
            assert given.keys() <= endpoints[name]
            assert len(node.args) + len(given) <= len(endpoints[name])
            called.add(name)
    assert called >= {"/add_data", "/start_training", "/training_status", "/predict", "/export", "/push"}
    assert sorted(set(endpoints) - named(section) - called) == []


@pytest.mark.parametrize("names", [list(STRATEGIES), list(OBJECTIVES)], ids=["strategies", "objectives"])
def test_every_strategy_and_objective_is_in_the_architecture_page(names: list[str]) -> None:
    assert names
    assert sorted(set(names) - named(TEXTS["docs/architecture.md"])) == []


def test_the_networks_pages_tables_are_the_registrys() -> None:
    assert set(entries(trains=False)) <= named(tables())
    assert TEXTS["docs/networks.md"] == page(), "python -m tests.networks_table"


def test_every_strategy_is_measured() -> None:
    section = TEXTS["docs/measurements.md"].split("## Strategies\n", 1)[1].split("\n## ")[0]
    assert sorted(set(STRATEGIES) - named(section)) == []


def test_the_architecture_pages_tree_is_the_packages() -> None:
    tree = re.search(r"```\n(app\.py .*?)```", TEXTS["docs/architecture.md"], re.S)
    assert tree
    shown: set[str] = set()
    above: list[str] = []
    for line in tree[1].splitlines():
        name = line.split()[0]
        above[(len(line) - len(line.lstrip())) // 2 :] = [name.rstrip("/")]
        shown.add("/".join(above) + "/" * name.endswith("/"))
    rooms = {path.parent for path in PACKAGE.rglob("__init__.py")} | {PACKAGE / "datasets"}
    there = {f"{room.relative_to(ROOT).as_posix()}/" for room in rooms}
    there |= {path.relative_to(ROOT).as_posix() for path in PACKAGE.glob("*.py") if path.name != "__init__.py"}
    assert {path for path in shown if path.startswith("resnet_space/")} == there
    assert all((ROOT / path).exists() for path in shown)


@pytest.mark.parametrize("document", TEXTS)
def test_what_a_document_links_to_names_as_a_file_or_runs_is_there(document: str) -> None:
    folder = (ROOT / document).parent
    links = {link.partition("#")[0] for link in LINK.findall(TEXTS[document]) if "://" not in link}
    assert sorted({link for link in links if link and not (folder / link).exists()}) == []
    files = FILE.findall(TEXTS[document])
    files += [f"{module.replace('.', '/')}.py" for module in MODULE.findall(TEXTS[document])]
    assert sorted({path for path in files if not (ROOT / path).exists()}) == []


def test_the_readme_is_for_who_uses_the_app_and_short() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 150

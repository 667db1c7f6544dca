"""The source code of a network as one file that needs nothing of this package.

It is taken from this package's own source, so it cannot differ from it: the function that builds the network, and what
that uses, definition by definition. Of a class come the methods that something in the file may call, by their names.
"""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any

from resnet_space.common.errors import UserError
from resnet_space.models.registry import STAGE_CBAM, Entry, Options

_CALLED = {"__init__", "forward", "__call__"}  # by Python or PyTorch
_FOR_CHECKERS = re.compile(r"  # (?:pyrefly: ignore|noqa).*")
Imports = Iterable[tuple[str, str]]
Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


def network_source(
    entry: Entry, num_classes: int, options: Options, more: Sequence[Callable[..., Any]] = (), imports: Imports = ()
) -> str:
    """Imports, definitions, and a function `build()` that gives the network with random weights.

    Args:
        entry, num_classes, options: as `Entry.network` has them; all options must be given.
        more: further functions of this package that the file shall have.
        imports: what else it shall import: (module, name in it); "" for the module itself.

    Raises:
        UserError: if its parts cannot be taken out of their module, such as a function within another.
    """
    build: Any = entry.bare or entry.build
    arguments: tuple[Any, ...] = ()
    if isinstance(build, partial):
        build, arguments = build.func, build.args
    inserted = entry.options.get("cbam") is STAGE_CBAM and options["cbam"] is not None
    own = {name: value for name, value in options.items() if entry.options.get(name) is not STAGE_CBAM}
    given = (*arguments, num_classes, *own.values())
    if any(not _is_literal(value) for value in given):
        raise UserError(f"The source of {entry.name} cannot be taken out: its arguments are no plain values.")
    call = ", ".join([*map(repr, given[: len(arguments) + 1]), *(f"{name}={value!r}" for name, value in own.items())])
    lines = [f"    return {build.__name__}({call})"]
    roots = [build, *more]
    if inserted:
        from resnet_space.models.stage_cbams import add_cbams

        network: Any = entry.network(num_classes, options)
        places = [f"        {module!r}: {place!r}," for module, place in network.cbam_places.items()]
        lines = [f"    model = {build.__name__}({call})", "    places = {", *places, "    }"]
        lines += ["    add_cbams(model, places)", "    return model"]
        roots.append(add_cbams)
    text = _Bundle(f"The source of {entry.name}").of(roots, imports)
    return "\n".join([text, "", 'def build() -> nn.Module:\n    """The network with random weights."""', *lines, ""])


def _is_literal(value: object) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False


class _Bundle:
    """Definitions with all that they need, each after those that it uses.

    `what` begins the sentence of an error.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.called = set(_CALLED)  # names that may be called as methods, or read as attributes

    def of(self, roots: Sequence[Callable[..., Any]], imports: Imports) -> str:
        self.packages = {root.__module__.partition(".")[0] for root in roots}
        while True:  # until no kept method calls one that was left out
            before = len(self.called)
            self.found: dict[str, tuple[str, str]] = {}  # name -> (module, text), in the order of the file
            self.imports = {("torch", "nn"), *imports}
            for root in roots:
                self._add(root.__module__, root.__name__)
            if len(self.called) == before:
                break
        texts = [text for _, text in self.found.values()]
        return "\n\n\n".join(["\n".join(_import_lines(self.imports)), *texts]) + "\n"

    def _add(self, module: str, name: str) -> None:
        """A name as a module knows it: its own definition, an import, or one of Python's own."""
        definition = _definitions(module).get(name)
        if definition is None:
            return  # Python's own, or a local name
        if isinstance(definition, tuple):
            self._add_import(*definition, name)
            return
        if name in self.found:
            if self.found[name][0] != module:
                raise UserError(f"{self.what} cannot be taken out: it has two definitions of {name}.")
            return
        self.found[name] = (module, "")  # so that what uses itself ends
        text = self._text(module, definition)
        del self.found[name]
        self.found[name] = (module, text)

    def _add_import(self, origin: str, imported: str, name: str) -> None:
        if origin.partition(".")[0] not in self.packages:
            self.imports.add((origin, imported if imported == name else f"{imported} as {name}" if imported else ""))
            return
        if imported != name:
            raise UserError(f"{self.what} cannot be taken out: {name} is {imported} of {origin}.")
        value = getattr(importlib.import_module(origin), name)
        self._add(value.__module__ if inspect.isclass(value) or inspect.isfunction(value) else origin, name)

    def _text(self, module: str, definition: Definition) -> str:
        """Its source without what is not needed, once that which it uses has been added."""
        left_out: set[ast.AST] = set()
        for member in definition.body if isinstance(definition, ast.ClassDef) else ():
            names = _names_of(member)
            if names and not names & self.called:
                left_out.add(member)
        for node in _walk(definition, left_out):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in self.packages:
                left_out.add(node)
                for alias in node.names:
                    self._add_import(node.module, alias.name, alias.asname or alias.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                self._add(module, node.id)
            elif isinstance(node, ast.Attribute):
                self.called.add(node.attr)
        return _source(module, definition, left_out)


def _walk(node: ast.AST, left_out: set[ast.AST]) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if child not in left_out:
            yield child
            yield from _walk(child, left_out)


def _names_of(node: ast.stmt) -> set[str]:
    """What a statement of a class or a module defines."""
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Assign():
            return {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


@cache
def _parsed(module: str) -> tuple[list[str], ast.Module]:
    source = inspect.getsource(importlib.import_module(module))
    return source.splitlines(), ast.parse(source)


@cache
def _definitions(module: str) -> dict[str, Definition | tuple[str, str]]:
    """What a module defines by name; (module, name there) for what it imports, "" for a module itself."""
    _, tree = _parsed(module)
    found: dict[str, Definition | tuple[str, str]] = {}
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.ClassDef() | ast.Assign() | ast.AnnAssign():
                found |= dict.fromkeys(_names_of(node), node)
            case ast.ImportFrom(module=str(origin)):
                found |= {alias.asname or alias.name: (origin, alias.name) for alias in node.names}
            case ast.Import():
                for alias in node.names:
                    dotted = alias.name if alias.asname is None else f"{alias.name} as {alias.asname}"
                    found[alias.asname or alias.name.partition(".")[0]] = (dotted, "")
    return found


def _source(module: str, definition: Definition, left_out: set[ast.AST]) -> str:
    lines, _ = _parsed(module)
    gone: set[int] = set()
    for node in left_out:
        assert isinstance(node, ast.stmt)
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        while lines[first - 2].lstrip().startswith("#"):  # what is said of it
            first -= 1
        last = node.end_lineno or first
        if isinstance(node, ast.ImportFrom) and lines[last : last + 1] == [""]:
            last += 1
        gone |= set(range(first, last + 1))
    first = min([definition.lineno, *(d.lineno for d in getattr(definition, "decorator_list", ()))])
    kept = [lines[i - 1] for i in range(first, (definition.end_lineno or 0) + 1) if i not in gone]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(_FOR_CHECKERS.sub("", line) for line in kept)).rstrip()


def _import_lines(imports: Imports) -> list[str]:
    """Import statements in the usual order, a blank line before those of other packages than Python's own."""
    by_module: dict[str, set[str]] = {}
    plain = set()
    for module, name in imports:
        if name:
            by_module.setdefault(module, set()).add(name)
        else:
            plain.add(module)
    groups: tuple[list[str], list[str]] = ([], [])
    for module in sorted(plain):
        groups[module.split()[0].partition(".")[0] not in sys.stdlib_module_names].append(f"import {module}")
    for module, names in sorted(by_module.items()):
        line = f"from {module} import {', '.join(sorted(names))}"
        groups[module.partition(".")[0] not in sys.stdlib_module_names].append(line)
    return [*groups[0], *([""] if groups[0] and groups[1] else []), *groups[1]]

"""The part of this project's source that some code needs, with its lines as they stand in the files.

For a notebook all modules become one: imports of each other fall away, and what a name stands for must not depend on
the module. Definitions that nothing needs are left out, and so are methods that nobody calls.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from symtable import SymbolTable, symtable

FOLDER = Path(__file__).parent
HEADING = re.compile(r"# -{3,4} (.+?) -*$")
SPECIAL = re.compile("__.+__$")


@dataclass(frozen=True)
class Part:
    """Some lines of a definition, counted from 1, and what they speak of: names, and attributes of whatever object."""

    first: int
    last: int
    names: frozenset[str]
    attributes: frozenset[str]
    method: str = ""  # if it is one that is only there for those who call it


@dataclass(frozen=True, eq=False)
class Definition:
    """A statement at the top of a module, which binds some names."""

    module: str
    heading: str  # the last one above it
    names: tuple[str, ...]
    parts: tuple[Part, ...]

    def needed(self, attributes: set[str]) -> list[Part]:
        return [part for part in self.parts if not part.method or part.method in attributes]


@dataclass(frozen=True)
class Module:
    """A file of this project, taken apart."""

    name: str
    lines: tuple[str, ...]
    definitions: dict[str, Definition]
    imports: dict[str, str]  # statements that import from elsewhere, by the name that each binds
    origins: dict[str, tuple[str, str]]  # where names come from that other modules here define: module and name


@dataclass(frozen=True)
class Passage:
    """Definitions that stand below one heading of a file, without what nobody needs."""

    module: str
    heading: str
    text: str


@dataclass(frozen=True)
class Excerpt:
    """All that some code needs: statements that import, its own among them, and passages in the modules' order."""

    imports: list[str]
    passages: list[Passage]


def excerpt(code: str, modules: tuple[str, ...], whole: tuple[str, ...] = ()) -> Excerpt:
    """What of these modules `code` needs, and all definitions of the `whole` ones.

    ValueError if a name would mean two things in one namespace: then one of them has to be renamed.
    """
    known = {name: read(name) for name in modules}
    found = {definition for name in whole for definition in known[name].definitions.values()}
    tree = ast.parse(code)
    names, attributes = map(set, _spoken(tree))
    found |= {module.definitions[name] for module in known.values() for name in names & set(module.definitions)}
    imports = {name: line for node in tree.body for name, line in _imported(node)}
    seen: set[tuple[Definition, Part]] = set()
    # What is new may call a method of what was found before.
    while new := {(each, part) for each in found for part in each.needed(attributes)} - seen:
        seen |= new
        for definition, part in new:
            attributes |= part.attributes
            found |= set(_named(part, known[definition.module], known, imports))
    _check_names(found, imports, _assigned(code))
    return Excerpt(_import_lines(imports.values()), list(_passages(found, known, attributes)))


def read(name: str) -> Module:
    """The module of this name as its file is now."""
    return _parsed(name, (FOLDER / f"{name}.py").read_text(encoding="utf-8"))


@lru_cache(maxsize=64)
def _parsed(name: str, source: str) -> Module:
    lines, tree = tuple(source.splitlines()), ast.parse(source)
    headings = [(number, found[1]) for number, line in enumerate(lines, 1) if (found := HEADING.match(line))]
    definitions, imports, origins = {}, {}, {}
    for node in tree.body[1:]:  # after the docstring
        match node:
            case ast.ImportFrom(module=str(origin)) if origin.split(".")[0] == "playground":
                for alias in node.names:
                    origins[alias.asname or alias.name] = (origin.partition(".")[2], alias.name)
            case ast.Import() | ast.ImportFrom():
                imports |= dict(_imported(node))
            case _:
                own = {*definitions, *origins}
                heading = next((text for number, text in reversed(headings) if number < node.lineno), "")
                definition = Definition(name, heading, tuple(_bound(node)), tuple(_parts(node, lines, own)))
                definitions |= dict.fromkeys(definition.names, definition)
    return Module(name, lines, definitions, imports, origins)


def _imported(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """The names that a statement imports, if it does, each with the statement for it alone."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        start = f"from {node.module} import" if isinstance(node, ast.ImportFrom) else "import"
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0], f"{start} {ast.unparse(alias)}"


def _bound(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Assign() | ast.AnnAssign():
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name))
        case _:
            raise ValueError(f"Line {node.lineno} binds no name: a notebook would not know whether it needs it.")


def _parts(node: ast.stmt, lines: tuple[str, ...], own: set[str]) -> Iterator[Part]:
    """The statement itself, and the methods of a class that are only there for those who call them.

    A class with a base that is not one of our `own` keeps all methods, since the base may call them.
    """
    methods = []
    if isinstance(node, ast.ClassDef) and all(isinstance(base, ast.Name) and base.id in own for base in node.bases):
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef) and not SPECIAL.match(part.name)]
        rest = [part for part in node.body if part not in methods]
        node = ast.copy_location(ast.ClassDef(node.name, node.bases, node.keywords, rest, node.decorator_list), node)
    yield Part(_first(node, lines), node.end_lineno, *_spoken(node))
    for method in methods:
        yield Part(_first(method, lines), method.end_lineno, *_spoken(method), method.name)


def _spoken(tree: ast.AST) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the module around it that some code speaks of, and the attributes of whatever object."""
    attributes = (node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return frozenset(_outer_names(symtable(ast.unparse(tree), "", "exec"))), frozenset(attributes)


def _outer_names(table: SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_global() or (table.get_type() == "module" and symbol.is_referenced()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _outer_names(inner)


def _first(node: ast.stmt, lines: tuple[str, ...]) -> int:
    """The line on which a statement begins, with its decorators and the comments right above."""
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
    while lines[first - 2].lstrip().startswith("#") and not HEADING.match(lines[first - 2]):
        first -= 1
    return first


def _named(part: Part, module: Module, known: dict[str, Module], imports: dict[str, str]) -> Iterator[Definition]:
    """What the names in a part of a module stand for; what comes from elsewhere is noted in `imports`."""
    for name in part.names:
        if name in module.definitions:
            yield module.definitions[name]
        elif name in module.origins:
            origin, there = module.origins[name]
            if there != name or origin not in known:
                raise ValueError(f"{module.name}.py takes {name} from where a notebook cannot: import it by its name.")
            yield known[origin].definitions[name]
        elif statement := module.imports.get(name):
            _once(imports, name, statement)


def _import_lines(statements: Iterable[str]) -> list[str]:
    """One line for each module: first those that are imported whole.

    >>> _import_lines(["from math import inf", "import re", "from math import e"])
    ['import re', 'from math import e, inf']
    """
    names = defaultdict(set)
    for statement in statements:
        source, _, name = statement.rpartition("import ")
        names[source].add(name)
    whole = [f"import {name}" for name in sorted(names.pop("", ()))]
    return [*whole, *(f"{source}import {', '.join(sorted(names[source]))}" for source in sorted(names))]


def _assigned(code: str) -> set[str]:
    return {symbol.get_name() for symbol in symtable(code, "", "exec").get_symbols() if symbol.is_assigned()}


def _check_names(found: Iterable[Definition], imports: dict[str, str], assigned: set[str]) -> None:
    """What the code assigns itself must not replace what others call."""
    places = dict.fromkeys(assigned, "assigned by the notebook")
    for name, statement in imports.items():
        _once(places, name, statement)
    for definition in found:
        for name in definition.names:
            _once(places, name, f"defined in {definition.module}.py")


def _once(places: dict[str, str], name: str, place: str) -> None:
    if places.setdefault(name, place) != place:
        raise ValueError(f"{name} has two meanings, {places[name]} and {place}: rename one, for the notebook.")


def _passages(found: Iterable[Definition], known: dict[str, Module], attributes: set[str]) -> Iterator[Passage]:
    """What was found, in the order of the modules and of their lines, passage by passage."""
    order = list(known)
    in_order = sorted(set(found), key=lambda definition: (order.index(definition.module), definition.parts[0].first))
    for (name, heading), definitions in groupby(in_order, lambda each: (each.module, each.heading)):
        yield Passage(name, heading, _text(known[name].lines, list(definitions), attributes))


def _text(lines: tuple[str, ...], definitions: list[Definition], attributes: set[str]) -> str:
    """The lines of these definitions, with as many empty ones between two as there are above the second."""
    kept: list[str] = []
    for definition in definitions:
        own, *methods = definition.parts
        left_out = {
            number
            for method in methods
            if method.method not in attributes
            for number in range(_end_before(lines, method.first) + 1, method.last + 1)
        }
        gap = own.first - 1 - _end_before(lines, own.first) if kept else 0
        kept += [""] * gap + [lines[n - 1] for n in range(own.first, own.last + 1) if n not in left_out]
    return "\n".join(kept)


def _end_before(lines: tuple[str, ...], number: int) -> int:
    """The last line above this one that is not empty."""
    return next(n for n in range(number - 1, 0, -1) if lines[n - 1])

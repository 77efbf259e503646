"""The order of imports: who may know whom, read from the source without running it.

A package imports only what stands before it in `ORDER`, so that every file can
be read and tested with nothing above it. Every import counts, late ones inside
functions and those for type checkers too.
"""

import ast
import graphlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = "gateway"

ORDER: Final = (
    "core",
    "config",
    "dialects",
    "backends",
    "pool",
    "scheduling",
    "admission",
    "story",
    "service",
    "telemetry",
    "jobs",
    "web",
    "daemon",
    "cli",
    "__main__",
)

IMPURE: Final = frozenset({"asyncio", "aiohttp", "time", "random"})

CORE_MAY_IMPORT: Final = {"jsonio": frozenset({"attrs", "msgspec", "orjson"})}
"""Of third parties, by module; `attrs` alone where a module is not named."""

Imports = Mapping[str, frozenset[str]]
"""Module → everything that it imports, as dotted names: modules of ours, top names of others."""


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES: Final = {
    _module_name(path): path.read_text("utf-8") for path in sorted((ROOT / PACKAGE).rglob("*.py"))
}


def _is_package(module: str) -> bool:
    return (ROOT / Path(*module.split(".")) / "__init__.py").exists()


def read_imports(sources: Mapping[str, str]) -> Imports:
    """What each module imports, at whatever place.

    `from gateway.core import errors` is an import of `gateway.core.errors`
    where that is a module, else of `gateway.core`.

    Raises:
        ValueError: A relative import; ours are absolute, and so can be searched for.
    """

    def targets(module: str, node: ast.AST) -> Iterable[str]:
        match node:
            case ast.Import(names=names):
                for name in names:
                    yield name.name
            case ast.ImportFrom(level=0, module=str(origin), names=names):
                for name in names:
                    inner = f"{origin}.{name.name}"
                    yield inner if inner in sources else origin
            case ast.ImportFrom():
                raise ValueError(f"{module}: relative import in line {node.lineno}")

    def normal(target: str) -> str:
        top = target.partition(".")[0]
        return target if top == PACKAGE else top

    return {
        module: frozenset(
            normal(target) for node in ast.walk(ast.parse(text)) for target in targets(module, node)
        )
        for module, text in sources.items()
    }


def _room(module: str) -> str:
    """The name in `ORDER` under which a module stands; "" for the top package itself."""
    return module.removeprefix(PACKAGE).removeprefix(".").partition(".")[0]


def _is_ours(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


def upward_imports(imports: Imports) -> list[str]:
    """Imports of what stands later in `ORDER`, a sentence each. The version is everybody's."""
    return [
        f"{module} imports {target}"
        for module, targets in imports.items()
        for target in sorted(targets)
        if _is_ours(target)
        and target != PACKAGE
        and (module == PACKAGE or ORDER.index(_room(target)) > ORDER.index(_room(module)))
    ]


def first_cycle(imports: Imports) -> list[str]:
    """Modules that import each other in a ring, or nothing."""
    ours = {module: {t for t in targets if _is_ours(t)} for module, targets in imports.items()}
    try:
        graphlib.TopologicalSorter(ours).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def reachable(imports: Imports, start: str) -> frozenset[str]:
    """Everything that comes along when `start` is imported, of ours and of others."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for target in imports.get(waiting.pop(), frozenset()) - seen:
            seen.add(target)
            waiting.append(target)
    return frozenset(seen)


def dialects(sources: Mapping[str, str]) -> frozenset[str]:
    """Modules with a class that both parses and encodes. The others there are common helpers."""

    def is_dialect(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.ClassDef)
            and not any(ast.unparse(base).startswith("Protocol") for base in node.bases)
            and {"parse", "encoder"}
            <= {inner.name for inner in node.body if isinstance(inner, ast.FunctionDef)}
        )

    return frozenset(
        module
        for module, text in sources.items()
        if _room(module) == "dialects" and any(map(is_dialect, ast.walk(ast.parse(text))))
    )


def dialect_knows_dialect(imports: Imports, known: frozenset[str]) -> list[str]:
    return [
        f"{module} imports {other}" for module in sorted(known) for other in imports[module] & known
    ]


IMPORTS: Final = read_imports(SOURCES)


def test_every_module_has_a_place_in_the_order() -> None:
    assert [module for module in SOURCES if _room(module) not in ("", *ORDER)] == []


def test_a_package_imports_only_what_stands_before_it() -> None:
    assert upward_imports(IMPORTS) == []


def test_no_modules_import_each_other() -> None:
    assert first_cycle(IMPORTS) == []


@pytest.mark.parametrize("module", [m for m in SOURCES if _room(m) == "dialects"])
def test_a_dialect_is_pure_and_so_is_all_that_it_brings(module: str) -> None:
    ours = {module} | {name for name in reachable(IMPORTS, module) if _is_ours(name)}
    impure = {f"{name} imports {bad}" for name in ours for bad in IMPORTS[name] & IMPURE}
    assert impure == set()


def test_dialects_never_know_each_other() -> None:
    assert dialect_knows_dialect(IMPORTS, dialects(SOURCES)) == []


def test_importing_a_package_imports_nothing_else() -> None:
    packages = [module for module in SOURCES if _is_package(module)]
    assert PACKAGE in packages
    for package in packages:
        statements = [
            ast.unparse(node)
            for node in ast.parse(SOURCES[package]).body
            if not isinstance(node, ast.Expr)
        ]
        if package == PACKAGE:
            assert statements[0] == "from typing import Final"
            assert [line.partition(":")[0] for line in statements[1:]] == ["__version__"]
        else:
            assert statements == [], package


@pytest.mark.parametrize("module", [m for m in SOURCES if _room(m) == "core"])
def test_core_stands_on_the_standard_library_and_attrs_alone(module: str) -> None:
    allowed = CORE_MAY_IMPORT.get(module.rpartition(".")[2], frozenset({"attrs"}))
    third_parties = {
        name
        for name in IMPORTS[module]
        if not _is_ours(name) and name not in sys.stdlib_module_names
    }
    assert third_parties <= allowed


# --- The checks themselves find what they look for ---------------------------


def test_a_late_import_upward_is_found() -> None:
    sources = {
        "gateway.core.a": "def f():\n    from gateway.web import app\n",
        "gateway.web": "",
        "gateway.web.app": "import gateway.core.a",
    }
    assert upward_imports(read_imports(sources)) == ["gateway.core.a imports gateway.web.app"]


def test_a_ring_of_imports_is_found() -> None:
    sources = {
        "gateway.pool.a": "from gateway.pool import b",
        "gateway.pool.b": "import gateway.pool.c",
        "gateway.pool.c": "from gateway.pool.a import thing",
    }
    assert set(first_cycle(read_imports(sources))) == set(sources)


def test_a_relative_import_is_found() -> None:
    with pytest.raises(ValueError, match="relative import in line 1"):
        read_imports({"gateway.pool.a": "from . import b"})


def test_a_dialect_that_knows_another_is_found_and_a_helper_is_none() -> None:
    dialect = "class D:\n    def parse(self): ...\n    def encoder(self): ...\n"
    sources = {
        "gateway.dialects.base": dialect.replace("class D", "class D(Protocol)"),
        "gateway.dialects.fields": "import gateway.dialects.base",
        "gateway.dialects.one": "import gateway.dialects.fields\n" + dialect,
        "gateway.dialects.two": "from gateway.dialects.one import D as E\n" + dialect,
    }
    known = dialects(sources)
    assert known == {"gateway.dialects.one", "gateway.dialects.two"}
    assert dialect_knows_dialect(read_imports(sources), known) == [
        "gateway.dialects.two imports gateway.dialects.one"
    ]


def test_what_an_import_brings_along_is_followed() -> None:
    sources = {
        "gateway.dialects.one": "from gateway.core.clock import Clock",
        "gateway.core.clock": "import asyncio.events",
    }
    assert "asyncio" in reachable(read_imports(sources), "gateway.dialects.one")

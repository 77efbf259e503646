"""Writes docs/compatibility.md: `python -m tests.compatibility`.

Nothing in it is typed by hand: each cell is what `tests/parameters.py` has found when it
sent the value through the dialect and to the engines.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from gateway.core import jsonio
from gateway.core.jsonio import Json
from tests.parameters import (
    APIS,
    Api,
    Body,
    Documented,
    Engine,
    Verdict,
    documentation,
    engines,
    judge,
    judge_engine,
)

PAGE: Final = Path(__file__).parent.parent / "docs" / "compatibility.md"

ENGINES: Final = ("Ollama", "embedded", "llama.cpp server", "vLLM")

_VALUE_CHARS_MAX: Final = 72

_HERE: Final[dict[Verdict, str]] = {
    "honoured": "honoured",
    "ignored": "ignored",
    "refused": "refused",
    "no-op": "as it is anyway",
}

_OPENING: Final = """\
# Compatibility

What becomes of every parameter that each API documents, found by sending it. Made by
`make compatibility`; `tests/test_compatibility.py` holds this page to the code.

- **honoured**: it does what its API says, here or by the engine. An engine that can't has **no** in
  its column: the parameter is then named in `x-gateway-ignored-params`.
- **ignored**: nothing here can honour it. It is named in `x-gateway-ignored-params`.
- **refused**: a 4xx that names it, since an answer without it would be to another question.
- **as it is anyway**: it asks for what happens without it.

With `generation.strict_params = true` whatever would be named is a 400 `unsupported_parameter`
instead. Keys that no API documents are named as ignored, too. Where values of one parameter fare
differently, each has its own row.
"""


def page() -> str:
    """The whole page; needs the embedded engine, which is one of its columns."""
    columns = list(engines())
    assert tuple(engine.name for engine in columns) == ENGINES, "the embedded engine is missing"
    return "\n".join([_OPENING, *(_section(api, columns) for api in APIS)])


def _section(api: Api, columns: Sequence[Engine]) -> str:
    documented = documentation(api)
    names = {parameter.name for parameter in documented.parameters}
    others = sorted(f"`{name}`" for name in api.parameters.keys() - names)
    lines = [
        f"## {api.title}",
        "",
        f"Source: {documented.source}.",
        "",
        _row("parameter", "here", *ENGINES, "note"),
        _row(*["---"] * (3 + len(ENGINES))),
    ]
    for parameter in documented.parameters:
        lines += _rows(api, documented.base, parameter, columns)
    if others:
        lines += ["", f"Taken besides: {', '.join(others)}."]
    return "\n".join((*lines, ""))


def _rows(api: Api, base: Body, parameter: Documented, columns: Sequence[Engine]) -> Iterator[str]:
    """One row, or one for each fate that a value can have."""
    told = api.parameters.get(parameter.name)
    fates: dict[tuple[str, ...], list[Json]] = {}
    for value in parameter.values:
        fate = _fate(api, base, parameter, value, columns)
        fates.setdefault((*fate, told.note if told else ""), []).append(value)
    for value, why in parameter.no_ops:
        fate = _fate(api, base, parameter, value, columns)
        fates.setdefault((*fate, why), []).append(value)
    for cells, values in fates.items():
        name = f"`{parameter.name}`"
        if len(fates) > 1:
            name += ": " + ", ".join(map(_shown, values))
        yield _row(name, *cells)


def _fate(
    api: Api, base: Body, parameter: Documented, value: Json, columns: Sequence[Engine]
) -> tuple[str, ...]:
    judged = judge(api.parse, base, parameter, value)
    if judged.verdict == "honoured":
        return _HERE["honoured"], *(judge_engine(engine, judged) for engine in columns)
    return _HERE[judged.verdict], *[""] * len(columns)


def _shown(value: Json) -> str:
    text = jsonio.dumps_text(value)
    if len(text) > _VALUE_CHARS_MAX:
        text = text[: _VALUE_CHARS_MAX - 1] + "…"
    return f"`{text}`"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |".replace("  ", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

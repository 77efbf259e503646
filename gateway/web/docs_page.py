"""The page for people: how to reach the gateway, and what it answers to.

Made of the description that machines read, once. Everything is put into the page as a
node of a tree, so that nothing can be forgotten to be escaped. It asks for nothing else:
no script, no font, no image, and its one style is inside.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any, Final
from xml.etree import ElementTree  # nosec B405 # writes, parses nothing
from xml.etree.ElementTree import Element  # nosec B405 # the same

from gateway.web.docs_clients import settings
from gateway.web.openapi import Document

STYLE: Final = resources.files(__package__).joinpath("docs.css").read_text("utf-8")

_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing may be loaded or run, were it smuggled in all the same."""

_METHODS: Final = ("get", "put", "post", "delete", "head")


def page(description: Document, *, keyed: bool) -> str:
    """The whole page, with `BASE` for where the reader has reached the gateway.

    Args:
        description: As `openapi.document` makes it.
    """
    tree = _node(
        "html",
        _node(
            "head",
            _node("meta", charset="utf-8"),
            _node("meta", name="viewport", content="width=device-width, initial-scale=1"),
            _node("meta", name="referrer", content="no-referrer"),
            _node("title", "gateway"),
            _node("style", STYLE),
        ),
        _node("body", _top(description), _node("main", *_main(description, keyed=keyed))),
        lang="en",
    )
    return "<!doctype html>\n" + ElementTree.tostring(tree, encoding="unicode", method="html")


def _node(tag: str, *children: Element | str, **attributes: str) -> Element:
    """An element; of its children those that are text are escaped when it is written."""
    node = Element(tag, {name.rstrip("_"): value for name, value in attributes.items()})
    last: Element | None = None
    for child in children:
        if isinstance(child, Element):
            node.append(child)
            last = child
        elif last is None:
            node.text = (node.text or "") + child
        else:
            last.tail = (last.tail or "") + child
    return node


# --- Parts of the page -----------------------------------------------------------------


def _top(description: Document) -> Element:
    places = {"clients": "Clients"} | {
        _anchor(tag["name"]): f"{tag['name']} endpoints" for tag in description["tags"]
    }
    places["refusals"] = "Refusals"
    links = [_node("li", _node("a", title, href=f"#{name}")) for name, title in places.items()]
    links.append(_node("li", _node("a", "openapi.json", href="openapi.json")))
    return _node(
        "header",
        _node("h1", "gateway"),
        _node("p", f"Version {description['info']['version']}."),
        *_text(description["info"]["description"]),
        _node("nav", _node("ul", *links), **{"aria-label": "On this page"}),
    )


def _main(description: Document, *, keyed: bool) -> Iterator[Element]:
    yield _node("h2", "Clients", id="clients")
    if keyed:
        key = "YOUR_KEY"
        yield _node("p", "Put your own key in place of ", _node("code", key), ".")
    else:
        key = "none"
        yield _node("p", "No key is needed here; clients that insist on one take any text.")
    for client in settings(key=key):
        yield _node("h3", client.client)
        if client.note:
            yield _node("p", client.note)
        # What scrolls must be reachable by keyboard.
        yield _node("pre", _node("code", client.text), tabindex="0")
    for tag in description["tags"]:
        yield _node("h2", f"{tag['name']} endpoints", id=_anchor(tag["name"]))
        for path, methods in description["paths"].items():
            for method in _METHODS:
                if tag["name"] in methods.get(method, {}).get("tags", ()):
                    yield _endpoint(method, path, methods[method], description)
    yield _node("h2", "Refusals", id="refusals")
    yield _refusals(description)


def _endpoint(method: str, path: str, operation: Document, description: Document) -> Element:
    parts: list[Element] = []
    if parameters := operation["parameters"]:
        rows = [(item["name"], item["in"], _meaning(item, item["schema"])) for item in parameters]
        parts.append(_table("Beside the body", ("name", "where", "meaning"), rows))
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        schema = _found(body["schema"], description)
        if properties := schema.get("properties"):
            required = schema.get("required", ())
            fields = [
                (name, _words(item, description), _required(name, required), _meaning(item))
                for name, item in properties.items()
            ]
            columns = ("parameter", "takes", "required", "meaning")
            parts.append(_table(f"Body, {media}", columns, fields))
    responses = operation["responses"]
    answers = [
        (status, " ".join(answer.get("content", ())), answer["description"])
        for status, answer in responses.items()
        if not _is_refusal(answer)
    ]
    parts.append(_table("Answers", ("status", "type", "meaning"), answers))
    refusals = ", ".join(status for status, answer in responses.items() if _is_refusal(answer))
    parts.append(
        _node("p", f"Refused with {refusals}; see ", _node("a", "refusals", href="#refusals"), ".")
    )
    title = _node(
        "summary",
        _node("code", f"{method.upper()} {path}"),
        _node("span", operation["summary"]),
    )
    return _node("details", title, *parts, id=operation["operationId"])


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Element:
    """The first column names what its row is about."""
    head = _node("tr", *(_node("th", column, scope="col") for column in columns))
    body = [
        _node(
            "tr",
            _node("th", _node("code", name), scope="row"),
            *(_node("td", *_marked(cell)) for cell in cells),
        )
        for name, *cells in rows
    ]
    table = _node("table", _node("caption", title), _node("thead", head), _node("tbody", *body))
    return _node("div", table, class_="wide")


def _refusals(description: Document) -> Element:
    """Each status and code once, however many endpoints refuse with it."""
    rows = {
        (status, line)
        for name, response in description["components"]["responses"].items()
        for status in (name.split("-")[1],)
        for line in response["description"].split("\n\n")
    }
    cells = [(status, *line.strip("`").split("`: ", maxsplit=1)) for status, line in sorted(rows)]
    return _table("By status", ("status", "code", "meaning"), cells)


def _is_refusal(answer: Document) -> bool:
    """Refusals stand among the components, answers in their place."""
    return "$ref" in answer


# --- Words for what stands in the description -------------------------------------------


def _found(value: Document, description: Document) -> Document:
    """What a reference refers to; what is none, itself."""
    if "$ref" not in value:
        return value
    found: Any = description
    for name in value["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    assert isinstance(found, dict)
    return found


def _words(schema: Document, description: Document) -> str:
    """What a schema takes, in a few words; `null` is left out, since it stands for nothing."""
    schema = _found(schema, description)
    match schema:
        case {"const": value}:
            return f"`{value}`"
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values if value is not None)
        case {"anyOf": list(schemas)}:
            return _either(schemas, description)
        case {"type": "array", "items": dict(items)}:
            return f"list of {_words(items, description)}"
        case {"type": list(kinds)}:
            return _either(({**schema, "type": kind} for kind in kinds), description)
        case {"type": str(kind)}:
            return kind + _bounds(schema)
        case _:
            return "anything"


def _either(schemas: Iterable[Document], description: Document) -> str:
    words = (_words(schema, description) for schema in schemas)
    return " or ".join(word for word in words if word != "null")


_INT32_MAX: Final = 2**31 - 1
"""What is bounded by the width of an integer alone is called unbounded."""


def _bounds(schema: Document) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    words = []
    if (above := schema.get("exclusiveMinimum")) is not None:
        words.append(f"above {above:g}")
    elif low is not None and low >= -_INT32_MAX:
        words.append(f"from {low:g}")
    if high is not None and high < _INT32_MAX:
        words.append(f"to {high:g}")
    return f", {' '.join(words)}" if words else ""


def _meaning(*told: Document) -> str:
    return " ".join(item["description"] for item in told if item.get("description"))


def _required(name: str, required: Iterable[str]) -> str:
    return "yes" if name in required else ""


def _anchor(name: str) -> str:
    return f"{name.lower()}-endpoints"


def _text(text: str) -> Iterator[Element]:
    """Paragraphs between empty lines."""
    for paragraph in text.split("\n\n"):
        yield _node("p", *_marked(paragraph))


def _marked(text: str) -> Iterator[Element | str]:
    """What stands between backticks is code; a line of its own stays one."""
    for index, piece in enumerate(text.split("`")):
        if index % 2:
            yield _node("code", piece)
            continue
        for number, line in enumerate(piece.split("\n\n")):
            if number:
                yield _node("br")
            yield line

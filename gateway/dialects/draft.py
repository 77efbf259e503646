"""How a dialect walks a body: one table of parameters, one look at every key.

A dialect's table maps each parameter of its wire to a `Parameter`: how it is read,
and what the description of the API says of it. The walk reads
what the table knows and notes every other key by name, so that nothing a caller
sends is dropped without a word. `null` means absent.
"""

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal

import attrs

from gateway.config.schema import Generation, Limits
from gateway.core import jsonio
from gateway.core.errors import GatewayError, InvalidRequest, MalformedRequest
from gateway.core.jsonio import Json
from gateway.core.messages import EmbedRequest, GenerateRequest, Sampling
from gateway.dialects import fields

IGNORED_MAX: Final = 32
AND_MORE: Final = "and-more"
"""Stands last when more than IGNORED_MAX parameters were ignored."""

_MODELS_OWN: Final = Sampling()

Fate = Literal["asked", "ignored", "no-op"]
"""What became of a parameter that was there.

asked: it is in the request; the engine may yet say that it can't honour it.
ignored: nothing here honours it, and the caller is told so.
no-op: it asks for what happens anyway, or its parts have each their own fate.
"""


@attrs.define(eq=False)
class Draft:
    """A request while it is being read.

    Attributes:
        body: The whole document, for parameters that depend on each other.
        request, sampling, extensions: Fields of `GenerateRequest`, of its
            `Sampling`, and its extensions, so far.
        params, wire_names: As in `GenerateRequest`.
        images_left: Images that may still come.
        include_usage: The caller wants token counts at the end of the stream.
        notes: What a dialect has to remember for the answer, by names of its own.
    """

    body: Mapping[str, Json]
    limits: Limits
    generation: Generation
    request: dict[str, Any] = attrs.field(factory=dict)
    sampling: dict[str, Any] = attrs.field(factory=dict)
    extensions: dict[str, Any] = attrs.field(factory=dict)
    params: set[str] = attrs.field(factory=set)
    wire_names: dict[str, str] = attrs.field(factory=dict)
    notes: dict[str, Any] = attrs.field(factory=dict)
    images_left: int = attrs.field(init=False)
    include_usage: bool = attrs.field(init=False, default=False)
    _max_tokens: int | None = attrs.field(init=False, default=None)
    _ignored: dict[str, None] = attrs.field(init=False, factory=dict)
    _ignored_more: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self.images_left = self.limits.images_max

    @property
    def ignored(self) -> tuple[str, ...]:
        """Names in order of appearance, each once, at most IGNORED_MAX."""
        if self._ignored_more:
            return (*list(self._ignored)[: IGNORED_MAX - 1], AND_MORE)
        return tuple(self._ignored)

    def ignore(self, name: str, *, under: str = "") -> None:
        """Note a parameter that has no effect; `name` may be the caller's own invention."""
        if self._ignored_more:
            return
        name = fields.shown(f"{under}{name}")
        if name in self._ignored or len(self._ignored) < IGNORED_MAX:
            self._ignored[name] = None
        else:
            self._ignored_more = True

    def ignore_rest(self, values: Mapping[str, Json], known: frozenset[str], *, under: str) -> None:
        """Note the keys of an object that nothing reads, unless they are empty."""
        if values.keys() <= known:
            return
        for name, value in values.items():
            if name not in known and value is not None and value not in ([], {}):
                self.ignore(name, under=under)

    def ask(self, name: str, *, written: str) -> None:
        """Note a parameter that engines know by another name than this wire does."""
        self.params.add(name)
        self.wire_names[name] = written

    def limit_tokens(self, count: int) -> None:
        """Several parameters bound the answer; the smallest holds."""
        self._max_tokens = count if self._max_tokens is None else min(self._max_tokens, count)

    def finish_embed(self) -> EmbedRequest:
        """The request for embeddings. `model` and its inputs must have been read."""
        return EmbedRequest(
            extensions=self.extensions,
            params=frozenset(self.params),
            wire_names=self.wire_names,
            **self.request,
        )

    def finish(self, *, unlimited: int | None = None) -> GenerateRequest:
        """The request. `model` and its prompt must have been read.

        Args:
            unlimited: Tokens of an answer where the caller has set no limit; None:
                the configured default.
        """
        wanted = self._max_tokens or unlimited or self.generation.max_tokens_default
        return GenerateRequest(
            sampling=Sampling(**self.sampling) if self.sampling else _MODELS_OWN,
            max_tokens=min(wanted, self.generation.max_tokens_max),
            max_tokens_wanted=self._max_tokens,
            extensions=self.extensions,
            params=frozenset(self.params),
            wire_names=self.wire_names,
            **self.request,
        )


Reader = Callable[[Draft, Json, str], Fate]
"""Reads one parameter into the draft: (draft, value, path)."""

How = Literal["honoured", "ignored", "refused"]
"""What comes of a parameter, whatever its value, as the description of the API has it.

honoured: here, or by an engine that can; one that can't is told of in the answer.
"""


@attrs.frozen
class Parameter:
    """One parameter of a dialect.

    Attributes:
        schema: What it takes, as a JSON Schema.
        note: What a user should know of it, in a line without a full stop.
    """

    read: Reader
    schema: Mapping[str, Json] = attrs.field(factory=dict)
    how: How = "honoured"
    note: str = ""


Table = Mapping[str, Parameter]


def walk(draft: Draft, table: Table, values: Mapping[str, Json], *, under: str = "") -> None:
    """Read every key of `values` by the table, or note that it is ignored.

    Raises:
        InvalidRequest, TooLarge: A value does not fit; `param` says which.
    """
    for name, value in values.items():
        if value is None:
            continue
        parameter = table.get(name)
        if parameter is None:
            draft.ignore(name, under=under)
            continue
        fate = parameter.read(draft, value, under + name)
        if fate == "asked":
            draft.params.add(name)
        elif fate == "ignored":
            draft.ignore(name, under=under)


class Reading:
    """What all dialects have in common: a body is read by a table.

    Attributes:
        parameters: All that a body may hold.
        required: What it must hold, and by name what is expected there.
        json_only: Whether it must be declared as JSON: curl by itself declares none.
        in_stream: Errors that its clients look for in a stream alone, and not in a status.
    """

    parameters: ClassVar[Table]
    required: ClassVar[Mapping[str, str]] = MappingProxyType({})
    json_only: ClassVar[bool] = True
    in_stream: ClassVar[tuple[type[GatewayError], ...]] = ()

    def __init__(self, limits: Limits, generation: Generation) -> None:
        self.limits = limits
        self.generation = generation

    def draft(self, body: bytes | bytearray) -> Draft:
        """A body as far as the table goes.

        Raises:
            MalformedRequest: It is no JSON object.
            InvalidRequest, TooLarge: As `walk`; and InvalidRequest where something is missing.
        """
        document = jsonio.parse_body(body)
        if not isinstance(document, dict):
            raise MalformedRequest("The body must be a JSON object.")
        for name, expected in self.required.items():
            if document.get(name) is None:
                raise InvalidRequest(f"'{name}' is required: {expected}.", param=name)
        draft = Draft(body=document, limits=self.limits, generation=self.generation)
        walk(draft, self.parameters, document)
        return draft


def check_size(draft: Draft, value: Json, path: str) -> None:
    """Schemas are compiled by the engine, at a cost that grows with them (CVE-2025-48944)."""
    bytes_max = draft.limits.tools_bytes_max
    if len(jsonio.dumps(value)) > bytes_max:
        raise InvalidRequest(
            f"'{path}' must be at most {bytes_max} bytes of JSON in all.", param=path
        )


def schema_of(table: Table, required: Collection[str] = ()) -> dict[str, Json]:
    """An object of these parameters, as a JSON Schema; what else it holds is ignored by name."""
    properties = {
        name: _told(parameter, required=name in required) for name, parameter in table.items()
    }
    schema: dict[str, Json] = {"type": "object", "properties": properties}
    return schema | ({"required": list(required)} if required else {})


_HOW: Final[Mapping[How, str]] = {
    "honoured": "",
    "ignored": "has no effect here",
    "refused": "is refused",
}


def _told(parameter: Parameter, *, required: bool) -> dict[str, Json]:
    """One property: what it takes, and what is to be known of it."""
    schema = parameter.schema if required else fields.or_null(parameter.schema)
    told = "; ".join(filter(None, (_HOW[parameter.how], parameter.note)))
    return {**schema, **({"description": told} if told else {})}


# --- Makers of the common parameters -----------------------------------------


def to_request(
    field: str, read: fields.Read[Any], *, no_op: Any = None, note: str = ""
) -> Parameter:
    """Into a field of the request. The value `no_op` asks for nothing."""

    def reader(draft: Draft, value: Json, path: str) -> Fate:
        draft.request[field] = taken = read(value, path)
        return "no-op" if taken == no_op else "asked"

    return Parameter(reader, fields.schema_of(read), note=note)


def to_sampling(field: str, read: fields.Read[Any], schema: Json = None) -> Parameter:
    """Into a field of `Sampling`."""

    def reader(draft: Draft, value: Json, path: str) -> Fate:
        draft.sampling[field] = read(value, path)
        return "asked"

    return Parameter(reader, schema or fields.schema_of(read))


def to_extensions(name: str, read: fields.Read[Any], schema: Json = None) -> Parameter:
    """By name to the engine that knows it."""

    def reader(draft: Draft, value: Json, path: str) -> Fate:
        draft.extensions[name] = read(value, path)
        return "asked"

    return Parameter(reader, schema or fields.schema_of(read))


def without_effect(read: fields.Read[Any], *no_ops: Any, note: str = "") -> Parameter:
    """Checked for its type and ignored; the values `no_ops` ask for what happens anyway."""

    def reader(draft: Draft, value: Json, path: str) -> Fate:
        return "no-op" if read(value, path) in no_ops else "ignored"

    return Parameter(reader, fields.schema_of(read), how="ignored", note=note)


def replaced_by(newer: str) -> Parameter:
    """Refused and not ignored: the answer would have a shape that the caller can't read."""

    def reader(draft: Draft, value: Json, path: str) -> Fate:
        raise InvalidRequest(f"'{path}' is not served any more: use '{newer}'.", param=path)

    return Parameter(reader, fields.NOTHING, how="refused", note=f"use `{newer}`")


UNLIMITED: Final = fields.INT64_MAX
"""Tokens of an answer that is to be as long as it may."""

_TOKENS: Final = fields.integer(1, UNLIMITED)


def _token_limit(draft: Draft, value: Json, path: str) -> Fate:
    # As llama.cpp and those who know it say that they want no limit.
    draft.limit_tokens(UNLIMITED if value == -1 else _TOKENS(value, path))
    return "asked"


token_limit: Final = Parameter(
    _token_limit,
    {"anyOf": [_TOKENS.schema, {"const": -1}]},
    note="the smallest of all limits holds; -1 is as many as generation.max_tokens_max",
)
"""One of the parameters that bound the length of an answer."""

"""What every wire format looks like from inside.

A dialect is pure: it takes bytes and values and gives values and bytes; it
awaits nothing and reads no clock. `parse` makes a request of a body; an
`Encoder` is made for each answer and turns events into the bytes of a stream,
or completions into the bytes of a whole reply.
"""

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter
from typing import Literal, Protocol, TypeVar

import attrs

from gateway.core.errors import GatewayError
from gateway.core.jsonio import Json
from gateway.core.messages import (
    Completion,
    Embeddings,
    EmbedRequest,
    Event,
    GenerateRequest,
    Request,
)
from gateway.dialects.draft import Table

Wanted = Literal["answer", "load", "unload"]


class Said(Protocol):
    """A body as its dialect has read it."""

    @property
    def request(self) -> Request: ...
    @property
    def ignored(self) -> tuple[str, ...]: ...


S_co = TypeVar("S_co", bound=Said, covariant=True)


@attrs.frozen(kw_only=True)
class Parsed:
    """A request, and what its answer must look like.

    Attributes:
        ignored: Parameters that no engine behind any gateway of ours honours,
            by name; the engine adds its own (`InferenceBackend.unsupported`).
        wants: An answer; or nothing but that the model be loaded, or put out of
            memory. Then the request has neither messages nor prompts.
    """

    request: GenerateRequest
    ignored: tuple[str, ...] = ()
    wants: Wanted = "answer"


P = TypeVar("P", bound=Parsed)
"""A request with what its own dialect needs besides to write the answer."""


@attrs.frozen(kw_only=True)
class EmbedParsed:
    """A request for embeddings, and what its answer must look like.

    Attributes:
        ignored: As in `Parsed`.
    """

    request: EmbedRequest
    ignored: tuple[str, ...] = ()


E = TypeVar("E", bound=EmbedParsed)
"""As `P`, for embeddings."""

StreamType = Literal["text/event-stream", "application/x-ndjson"]


@attrs.frozen
class ReplyHead:
    """What every chunk of one answer repeats.

    Attributes:
        id: Without the dialect's prefix; unique.
        created: Seconds since the epoch.
        model: The name to show, as the caller gave it.
        request_id: As the client knows the request, for errors that come in-band.
    """

    id: str
    created: int
    model: str
    request_id: str = ""


@attrs.frozen
class Envelope:
    """How a wire format tells of an error that comes instead of an answer.

    Attributes:
        body: (error, the request's id) to the bytes of the reply.
        schema: What the reply is, as a JSON Schema.
        status: The HTTP status; most formats leave it at the error's own.
    """

    body: Callable[[GatewayError, str], bytes]
    schema: Mapping[str, Json]
    status: Callable[[GatewayError], int] = attrgetter("status")


def misfit_is_400(error: GatewayError) -> int:
    """The status in formats that know no 422, the predecessor's for a body that does not fit."""
    return 400 if error.status == 422 else error.status


def moment(epoch_s: int) -> str:
    """RFC 3339 of seconds since the epoch, in UTC."""
    return datetime.datetime.fromtimestamp(epoch_s, datetime.UTC).isoformat().replace("+00:00", "Z")


class Encoder(Protocol):
    """Writes one answer. Used for one stream, or for one whole reply."""

    def feed(self, events: Sequence[Event]) -> bytes:
        """The bytes of these events, the closing ones included with the last `Finished`."""
        ...

    def fail(self, error: GatewayError) -> bytes:
        """The in-band end of a stream that broke. Never looks like a finished answer."""
        ...

    def reply(self, answers: Sequence[Completion]) -> bytes:
        """A whole answer, one completion for each choice."""
        ...


class Reads(Protocol[S_co]):
    """A dialect as far as its bodies go. See `draft.Reading`."""

    @property
    def parameters(self) -> Table:
        """All that a body may hold."""
        ...

    @property
    def required(self) -> Collection[str]:
        """What it must hold."""
        ...

    @property
    def json_only(self) -> bool:
        """Whether a body must be declared as JSON: curl by itself declares none."""
        ...

    def parse(self, body: bytes | bytearray) -> S_co:
        """Raises MalformedRequest, InvalidRequest (with `param`), TooLarge."""
        ...


class Dialect(Reads[P], Protocol[P]):
    """One wire format for text that is generated."""

    @property
    def stream_type(self) -> StreamType:
        """What its streams are."""
        ...

    @property
    def in_stream(self) -> tuple[type[GatewayError], ...]:
        """Errors that its clients look for in a stream alone, and not in a status."""
        ...

    def encoder(self, parsed: P, head: ReplyHead) -> Encoder: ...


class EmbedDialect(Reads[E], Protocol[E]):
    """One wire format for embeddings: there is no stream, and so no encoder."""

    def reply(self, parsed: E, head: ReplyHead, embeddings: Embeddings) -> bytes:
        """The whole answer; as many vectors as the request has inputs."""
        ...

"""What every wire format looks like from inside.

A dialect is pure: it takes bytes and values and gives values and bytes; it
awaits nothing and reads no clock. `parse` makes a request of a body; an
`Encoder` is made for each answer and turns events into the bytes of a stream,
or completions into the bytes of a whole reply.
"""

from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import Literal, Protocol, TypeVar

import attrs

from gateway.core.errors import GatewayError
from gateway.core.messages import Completion, Event, GenerateRequest
from gateway.dialects.draft import Table


@attrs.frozen(kw_only=True)
class Parsed:
    """A request, and what its answer must look like.

    Attributes:
        ignored: Parameters that no engine behind any gateway of ours honours,
            by name; the engine adds its own (`InferenceBackend.unsupported`).
    """

    request: GenerateRequest
    ignored: tuple[str, ...] = ()


P = TypeVar("P", bound=Parsed)
"""A request with what its own dialect needs besides to write the answer."""

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
        status: The HTTP status; most formats leave it at the error's own.
    """

    body: Callable[[GatewayError, str], bytes]
    status: Callable[[GatewayError], int] = attrgetter("status")


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


class Dialect(Protocol[P]):
    """One wire format for text that is generated."""

    @property
    def parameters(self) -> Table:
        """All that a body may hold."""
        ...

    @property
    def required(self) -> Collection[str]:
        """What it must hold."""
        ...

    @property
    def stream_type(self) -> StreamType:
        """What its streams are."""
        ...

    @property
    def json_only(self) -> bool:
        """Whether a body must be declared as JSON: curl by itself declares none."""
        ...

    def parse(self, body: bytes | bytearray) -> P:
        """Raises MalformedRequest, InvalidRequest (with `param`), TooLarge."""
        ...

    def encoder(self, parsed: P, head: ReplyHead) -> Encoder: ...

"""What every wire format looks like from inside.

A dialect is pure: it takes bytes and values and gives values and bytes; it
awaits nothing and reads no clock. `parse` makes a request of a body; an
`Encoder` is made for each answer and turns events into the bytes of a stream,
or completions into the bytes of a whole reply.
"""

from collections.abc import Sequence
from typing import Protocol

import attrs

from gateway.core.errors import GatewayError
from gateway.core.messages import Completion, Event, GenerateRequest


@attrs.frozen(kw_only=True)
class Parsed:
    """A request, and what its answer must look like.

    Attributes:
        ignored: Parameters that no engine behind any gateway of ours honours,
            by name; the engine adds its own (`InferenceBackend.unsupported`).
        include_usage: The caller wants token counts at the end of the stream.
    """

    request: GenerateRequest
    ignored: tuple[str, ...] = ()
    include_usage: bool = False


@attrs.frozen
class ReplyHead:
    """What every chunk of one answer repeats.

    Attributes:
        id: Without the dialect's prefix; unique.
        created: Seconds since the epoch.
        model: The name to show, as the caller gave it.
    """

    id: str
    created: int
    model: str


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


class Dialect(Protocol):
    """One wire format."""

    name: str
    """For logs and metrics: chat_completions, messages…"""

    def parse(self, body: bytes | bytearray) -> Parsed:
        """Raises MalformedRequest, InvalidRequest (with `param`), TooLarge."""
        ...

    def encoder(self, parsed: Parsed, head: ReplyHead) -> Encoder: ...

    def error(self, error: GatewayError, request_id: str) -> bytes:
        """The envelope of an error that comes instead of an answer."""
        ...

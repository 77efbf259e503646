"""The one tree of errors, each with its place in the API.

Everything that a caller may be told is a `GatewayError`: it knows its HTTP
status, the public `code`, and, where coming back later helps, when. Below
`web/` nobody knows more of HTTP than `status`. A dialect puts the error into
its own envelope; the edge writes it as a status line before the first byte
and in-band after it.

`reason` is finer than `code`: it goes to metrics and the log, never to the
caller, and it is one of a closed set (the class attributes below).
"""

from typing import ClassVar

import attrs


class GatewayError(Exception):
    """Something a caller is told.

    Args:
        message: A sentence for the caller. Never holds the backend's own text,
            a path, or a secret.
        param: The request parameter at fault, as a path such as
            `messages[2].content`.
        retry_after_s: Seconds until coming back can help; None where it can't.

    Attributes:
        shared: Another request has met the very same failure of an engine, and counts it.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    reason: str = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.shared = False
        if reason is not None:
            self.reason = reason


class InternalError(GatewayError):
    """Our own fault: the traceback is in the log under the request's id."""


# --- What the caller sent -------------------------------------------------


class MalformedRequest(GatewayError):
    """Not HTTP or not JSON as it should be; the message says where."""

    status = 400
    code = "invalid_json"
    reason = "invalid_json"


class BadContentEncoding(MalformedRequest):
    """A compressed body that is cut short, or is not what its Content-Encoding says."""

    code = "invalid_content_encoding"
    reason = "content_encoding"


class BadHttp(GatewayError):
    """A request that HTTP does not allow. The connection is closed after it."""

    status = 400
    code = "bad_http"
    reason = "bad_http"


class HttpVersionNotSupported(BadHttp):
    """Neither HTTP/1.1 nor HTTP/1.0."""

    status = 505


class InvalidRequest(GatewayError):
    """A well-formed body that doesn't fit; `param` names what, the message what was expected."""

    status = 422
    code = "invalid_request"
    reason = "invalid_request"


class ConfigRefused(GatewayError):
    """A new configuration that is wrong, or not there; the old one stays. A line a mistake."""

    status = 422
    code = "config_refused"
    reason = "config_refused"


class UnsupportedParameter(GatewayError):
    """A parameter nobody here can honour, in strict mode."""

    status = 400
    code = "unsupported_parameter"
    reason = "unsupported_parameter"


class ContextLengthExceeded(GatewayError):
    """The prompt is longer than the context that is really allocated.

    Attributes:
        prompt: Its tokens; None where the engine has not said, and so below.
        context: Tokens of prompt and answer together.
    """

    status = 400
    code = "context_length_exceeded"
    reason = "context_length"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        prompt: int | None = None,
        context: int | None = None,
    ) -> None:
        super().__init__(message, param=param)
        self.prompt = prompt
        self.context = context


class BackendRefusedRequest(GatewayError):
    """The engine says that this request can't be served by this model (no tools, no images…)."""

    status = 400
    code = "unsupported_by_model"
    reason = "unsupported_by_model"


class Unauthorized(GatewayError):
    """No key, or not one of ours. The same answer whatever was wrong with it."""

    status = 401
    code = "invalid_api_key"
    reason = "auth_failure"


class Forbidden(GatewayError):
    """The Host or Origin of the request is not one we serve."""

    status = 403
    code = "host_not_allowed"
    reason = "host"


class OriginNotAllowed(Forbidden):
    """A browser page of another origin tried to change something."""

    code = "origin_not_allowed"
    reason = "origin"


class NotPermitted(GatewayError):
    """The key is right, but not for this."""

    status = 403
    code = "not_permitted"
    reason = "not_permitted"


class ModelNotAllowed(GatewayError):
    """The key is right, but not for this model."""

    status = 403
    code = "model_not_allowed"
    reason = "model_not_allowed"


class UnknownRoute(GatewayError):
    """No such URL."""

    status = 404
    code = "unknown_url"
    reason = "unknown_url"


class ModelNotFound(GatewayError):
    """No upstream has this model."""

    status = 404
    code = "model_not_found"
    reason = "model_not_found"


class RequestNotFound(GatewayError):
    """No request with this id is known, or it is somebody else's."""

    status = 404
    code = "request_not_found"
    reason = "request_not_found"


class ResponseNotFound(GatewayError):
    """A response is asked for by its id, and none is kept."""

    status = 404
    code = "response_not_found"
    reason = "response_not_found"


class MethodNotAllowed(GatewayError):
    """The URL exists, the method on it doesn't; `allowed` is for the Allow header."""

    status = 405
    code = "method_not_allowed"
    reason = "method_not_allowed"

    def __init__(self, message: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


class BodyTimeout(GatewayError):
    """The client began a request and did not finish sending it."""

    status = 408
    code = "request_timeout"
    reason = "body_timeout"


class HeadTimeout(BodyTimeout):
    """The client began a head and did not finish sending it."""

    reason = "header_timeout"


class TooLarge(GatewayError):
    """The body is larger than the configured bound."""

    status = 413
    code = "request_too_large"
    reason = "too_large"


class HeadTooLarge(GatewayError):
    """The request line or the headers are larger than the bound."""

    status = 431
    code = "head_too_large"
    reason = "head_too_large"


class TargetTooLong(HeadTooLarge):
    """The request line alone is larger than the bound."""

    status = 414


class UnsupportedMediaType(GatewayError):
    """A body that is not plain JSON."""

    status = 415
    code = "unsupported_media_type"
    reason = "media_type"


class UnsupportedContentEncoding(UnsupportedMediaType):
    """A body in a content coding, or in several, that nobody here undoes."""

    code = "unsupported_content_encoding"
    reason = "content_encoding"


class ExpectationFailed(GatewayError):
    """An Expect header other than 100-continue."""

    status = 417
    code = "expectation_failed"
    reason = "bad_http"


class NotSupported(GatewayError):
    """A part of an API that nothing here can serve, or that no engine with this model has."""

    status = 501
    code = "not_supported"
    reason = "not_supported"


class TooManyConnections(GatewayError):
    """The whole daemon has as many connections as it may have."""

    status = 503
    code = "too_many_connections"
    reason = "connections"


class TooManyOfOneAddress(TooManyConnections):
    """This client has as many connections as one may have; others are served."""

    status = 429


# --- Refused now, welcome later -------------------------------------------


@attrs.frozen(kw_only=True)
class Promise:
    """What a refused client is told of the place that is held for it.

    Attributes:
        place: To be sent back in `x-gateway-place`; "" when no place is held.
        wait_s: From now until its turn, as far as can be known.
        position: How many are before it.
    """

    place: str = ""
    wait_s: float = 0.0
    position: int = 0


class Overloaded(GatewayError):
    """Refused before any work was done; `retry_after_s` says when to come back.

    Attributes:
        promise: What is known of its turn; None where nothing is.
    """

    status = 503
    code = "backend_overloaded"
    reason = "overload"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        reason: str | None = None,
        promise: Promise | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s, reason=reason)
        self.promise = promise


class QueueFull(Overloaded):
    """The queue holds as many requests as it may."""

    code = "queue_full"
    reason = "queue_full"


class DeadlineUnmeetable(Overloaded):
    """It would not be answered in time."""

    code = "deadline_unmeetable"
    reason = "deadline"


class MemoryPressure(Overloaded):
    """The bodies being read already fill their common budget."""

    code = "memory_pressure"
    reason = "memory_pressure"


class ShuttingDown(Overloaded):
    """The daemon drains: what was accepted ends, nothing new starts."""

    code = "shutting_down"
    reason = "shutting_down"


class StorageBusy(Overloaded):
    """What is asked for lies in a file that can't be read at the moment."""

    code = "storage_busy"
    reason = "storage"


class RateLimited(GatewayError):
    """This caller has had as much as it may have for now; `retry_after_s` says when it has more."""

    status = 429
    code = "rate_limit_exceeded"
    reason = "requests_per_minute"


class TooManyTokens(RateLimited):
    """Its prompts and answers had too many tokens in the last minute."""

    reason = "tokens_per_minute"


class TooManyTokensToday(RateLimited):
    """The same of a day of UTC."""

    reason = "tokens_per_day"


class TooManyAtOnce(RateLimited):
    """As many of its requests run and wait as may."""

    reason = "requests_at_once"


class AuthThrottled(GatewayError):
    """From this address too many wrong keys have come."""

    status = 429
    code = "auth_throttled"
    reason = "auth_throttled"


# --- Broke on the way to or in the engine ----------------------------------


class BackendError(GatewayError):
    """The engine failed this request. `kind` feeds gateway_upstream_errors_total."""

    status = 502
    code = "backend_error"
    reason = "backend_error"
    kind: ClassVar[str] = "error"


class UpstreamUnreachable(BackendError):
    """No connection came about: refused, DNS, unreachable, the engine restarting."""

    kind = "connect"


class UpstreamDisconnected(BackendError):
    """The connection ended before the answer did.

    Attributes:
        untouched: True when no byte of the answer had arrived, so that the
            same request may be sent once more (a stale pooled connection).
    """

    kind = "disconnect"

    def __init__(self, message: str, *, untouched: bool = False) -> None:
        super().__init__(message)
        self.untouched = untouched


class UpstreamBadResponse(BackendError):
    """The engine's answer can't be understood, or is larger than it may be."""

    kind = "bad_response"


class UpstreamFailed(BackendError):
    """The engine answered with an error of its own."""

    kind = "error"


class UpstreamBusy(Overloaded):
    """The engine says it has too much to do."""

    reason = "overload"
    kind: ClassVar[str] = "busy"


class RequestTimeout(GatewayError):
    """The answer was not there in time."""

    status = 504
    code = "request_timeout"
    reason = "timeout"
    kind: ClassVar[str] = "timeout"


class UpstreamStalled(RequestTimeout):
    """The engine began an answer and fell silent."""

    reason = "stall"
    kind = "stall"


# --- Not for callers --------------------------------------------------------


class ConfigError(Exception):
    """The configuration is wrong; every mistake at once, a line each.

    Attributes:
        mistakes: One sentence each: file, key, value, what would be right.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes

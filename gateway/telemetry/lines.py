"""How a log line looks: JSON for machines, one readable line on a terminal.

A line tells either a record of Python's `logging` or an `Exchange`. Both become
a flat mapping of stable field names first; a field without a value is left out.

A message of ours that is one word in snake_case is an `event`, and what is told
with it stands in `extra`; any other message is text, under the event `log`.
"""

import logging
import re
import time
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Protocol

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.orjson import OrjsonFormatter

from gateway.core.ticket import Priority
from gateway.core.trace import Trace, current
from gateway.telemetry.clean import clean, tell
from gateway.telemetry.exchange import CLASSES, CLIENT_GONE, Exchange, tokens_per_s

Field = str | int | float | bool | None
Fields = dict[str, Field]

LINE_BYTES_MAX: Final = 4096
MESSAGE_CHARS_MAX: Final = 500
EVENT_CHARS_MAX: Final = 64
EXTRAS_MAX: Final = 32
EXTRA_NAME_CHARS_MAX: Final = 40

QUIET_ROUTES: Final = frozenset(
    {"/health", "/ready", "/metrics", "/gateway/status", "/gateway/events", "/page/{file}"}
)
"""Asked every few seconds by machines; told at debug level while the answer is usual, and
never traced."""

REQUEST_LOGGER: Final = "gateway.request"

_RESERVED: Final = frozenset(RESERVED_ATTRS)
_EVENT: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_NOT_PRINTABLE: Final = re.compile(r"[^\x20-\x7e]")


class LineFormat(Protocol):
    """Turns what is told into a line, without its end."""

    def format(self, record: logging.LogRecord) -> str: ...

    def request(self, at: float, exchange: Exchange) -> str:
        """The line of an HTTP request that was answered `at`, seconds since the epoch."""
        ...


# --- What is told -------------------------------------------------------------


def is_ours(record: logging.LogRecord) -> bool:
    return record.name == "gateway" or record.name.startswith("gateway.")


def request_level(exchange: Exchange) -> int:
    """Failures stand out; what was refused is everyday, and a `/ready` that says no as well."""
    status = exchange.status
    if exchange.route in QUIET_ROUTES and (
        status < 400 or (status == 503 and exchange.route == "/ready")
    ):
        return logging.DEBUG
    if exchange.record is not None:
        # A stream that broke had a 200 in its head.
        status = max(status, exchange.record.status)
    return logging.WARNING if status >= 500 and status != 503 else logging.INFO


def is_usual(exchange: Exchange) -> bool:
    """Whether all went well; of such requests a sample may do."""
    record = exchange.record
    return exchange.status < 400 and (record is None or record.outcome == "completed")


def request_fields(exchange: Exchange) -> Fields:
    """What became of an HTTP request, and of the request for text in it."""
    fields: Fields = {
        "event": "request",
        "request_id": clean(exchange.request_id),
        "route": exchange.route,
        "method": exchange.method,
        "status": exchange.status,
        **_trace_fields(exchange.trace),
    }
    if exchange.code:
        fields["code"] = exchange.code
    record = exchange.record
    reason = exchange.reason or (record.reason if record else "")
    if reason or exchange.status == CLIENT_GONE:
        fields["reason"] = reason or "client_gone"
    if exchange.caller:
        fields["caller"] = clean(exchange.caller)
    if record is not None:
        fields["model"] = clean(record.model)
        fields["stream"] = record.stream
        if record.upstream:
            fields["upstream"] = clean(record.upstream)
        fields["outcome"] = record.outcome
        if record.phase:
            fields["phase"] = record.phase
        if record.truncated:
            fields["truncated"] = True
        if record.rejoined:
            fields["rejoined"] = True
        if record.attempts > 1:
            fields["attempts"] = record.attempts
        if record.priority is not None and record.priority is not Priority.NORMAL:
            fields["priority"] = CLASSES[record.priority]
        if record.swaps:
            fields["swaps"] = record.swaps
        if record.expected_wait_s > 0.0:
            fields["expected_wait_ms"] = _ms(record.expected_wait_s)
        fields["queue_ms"] = _ms(record.queue_s)
        if record.first_token_s is not None:
            fields["first_token_ms"] = _ms(record.first_token_s)
    fields["total_ms"] = _ms(exchange.total_s)
    if record is not None and (record.usage.prompt or record.usage.completion):
        fields["prompt_tokens"] = _plain(record.usage.prompt)
        fields["completion_tokens"] = _plain(record.usage.completion)
        speed = tokens_per_s(record)
        if speed is not None:
            fields["tokens_per_s"] = round(speed, 2)
    return fields


def record_fields(record: logging.LogRecord) -> Fields:
    """What a module said; of others' modules the first line, since the rest quotes anything."""
    message = record.getMessage()
    fields: Fields = {}
    if not is_ours(record):
        fields["event"] = "log"
        fields["message"] = clean(message.partition("\n")[0], MESSAGE_CHARS_MAX)
    elif len(message) <= EVENT_CHARS_MAX and _EVENT.fullmatch(message):
        fields["event"] = message
    else:
        fields["event"] = "log"
        fields["message"] = clean(message, MESSAGE_CHARS_MAX)
    fields.update(_trace_fields(current.get()))
    extras = [item for item in vars(record).items() if item[0] not in _RESERVED]
    for name, value in extras[:EXTRAS_MAX]:
        fields[clean(name, EXTRA_NAME_CHARS_MAX)] = _plain(value)
    return fields


def _trace_fields(trace: Trace | None) -> Fields:
    """Where to find a request among spans; the span is told where it is one of ours."""
    if trace is None:
        return {}
    told: Fields = {"trace_id": trace.context.trace_id}
    if trace.ours:
        told["span_id"] = trace.context.span_id
    return told


def _plain(value: Any) -> Field:
    match value:
        case None | bool() | float():
            return value
        case int() if abs(value) < 2**53:
            return value
        case _:
            return clean(str(value))


def _ms(seconds: float) -> float:
    return round(seconds * 1000.0, 1)


# --- JSON ---------------------------------------------------------------------


class JsonLines(OrjsonFormatter):
    """Each line one JSON object in ASCII, LINE_BYTES_MAX long at the most."""

    def request(self, at: float, exchange: Exchange) -> str:
        level = logging.getLevelName(request_level(exchange)).lower()
        fields: Fields = {"time": _rfc3339(at), "level": level, "logger": REQUEST_LOGGER}
        fields.update(request_fields(exchange))
        return self.serialize_log_record(fields)

    def add_fields(
        self,
        log_data: dict[str, Any],
        record: logging.LogRecord,
        message_dict: dict[str, Any],
    ) -> None:
        log_data["time"] = _rfc3339(record.created)
        log_data["level"] = record.levelname.lower()
        log_data["logger"] = clean(record.name)
        log_data.update(record_fields(record))
        if "exc_info" in message_dict:
            log_data["exception"] = message_dict["exc_info"]

    def formatException(self, ei: Any) -> str:
        return tell(ei[1]) if ei[1] is not None else ""

    def serialize_log_record(self, log_data: dict[str, Any]) -> str:
        line = self._dump(log_data)
        while len(line) >= LINE_BYTES_MAX:
            # The longest text gives way; names and numbers alone always fit.
            texts = {name: text for name, text in log_data.items() if isinstance(text, str)}
            longest = max(texts, key=lambda name: len(texts[name]))
            text = texts[longest]
            half = len(text) // 2
            # Of a traceback the end tells most.
            log_data[longest] = text[-half:] if longest == "exception" else text[:half]
            line = self._dump(log_data)
        return line

    def _dump(self, log_data: dict[str, Any]) -> str:
        line = self.jsonify_log_record(log_data)
        if line.isascii() and "\x7f" not in line:
            return line
        return _NOT_PRINTABLE.sub(_escape, line)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _rfc3339(at: float) -> str:
    milliseconds = int(at * 1000.0)
    return f"{_rfc3339_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=4)
def _rfc3339_second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


# --- For people -----------------------------------------------------------------


class TextLines(logging.Formatter):
    """`12:00:01.500 info  POST /v1/chat/completions 200 2.3 s  model=…`; tracebacks below."""

    def request(self, at: float, exchange: Exchange) -> str:
        fields = request_fields(exchange)
        level = logging.getLevelName(request_level(exchange)).lower()
        for told_already in ("event", "method", "route", "status", "total_ms"):
            del fields[told_already]
        what = f"{exchange.method} {exchange.route} {exchange.status} {_duration(exchange.total_s)}"
        return _text(at, level, what, fields)

    def format(self, record: logging.LogRecord) -> str:
        fields = record_fields(record)
        event, message = fields.pop("event"), fields.pop("message", None)
        if not is_ours(record):
            fields["logger"] = clean(record.name)
        line = _text(record.created, record.levelname.lower(), str(message or event), fields)
        if record.exc_info and record.exc_info[1] is not None:
            line += "\n" + tell(record.exc_info[1])
        return line


def _text(at: float, level: str, what: str, fields: Mapping[str, Field]) -> str:
    clock = datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-3]
    told = "  ".join(f"{name}={value}" for name, value in fields.items())
    line = f"{clock} {level:<7} {what}" + (f"  {told}" if told else "")
    return clean(line, LINE_BYTES_MAX - 1)


def _duration(seconds: float) -> str:
    return f"{seconds * 1000.0:.0f} ms" if seconds < 1.0 else f"{seconds:.1f} s"

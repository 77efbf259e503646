"""The running daemon, asked over HTTP as any client would.

    client = connect(arguments)
    status = client.get("/gateway/status")

Its address is that of the configuration, unless `--url` names another; the key is
`$GATEWAY_KEY`. Without one the daemon answers whoever is on its machine, as far as
`server.local_admin` goes.
"""

import argparse
import http.client
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.cli.command import CommandError
from gateway.cli.settings import add_config_option, read_settings
from gateway.config.effective import bind_address
from gateway.config.schema import Config
from gateway.core import exit_codes, jsonio

KEY_VARIABLE: Final = "GATEWAY_KEY"

TIMEOUT_S: Final = 30.0
"""Of silence. What may take longer, such as loading a model, says so."""

_THIS_MACHINE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a daemon is reached that listens everywhere."""


class NotRunning(CommandError):
    """Nobody listens there."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(
            f"no gateway answers at {url} ({why}). Is it running? --url names another.",
            exit_code=exit_codes.UNAVAILABLE,
        )


class Refused(CommandError):
    """The daemon answers, and says no.

    Attributes:
        status: Of HTTP.
        code: The public code of the error.
        retry_after_s: When coming back can help, as it says itself.
    """

    def __init__(
        self, message: str, *, status: int, code: str, retry_after_s: float | None = None
    ) -> None:
        unlocked = status in (401, 403)
        super().__init__(
            f"{message} (${KEY_VARIABLE} holds the key.)" if unlocked else message,
            exit_code=exit_codes.NO_PERMISSION if unlocked else exit_codes.FAILED,
        )
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class Reply:
    """An answer as it comes.

    Attributes:
        headers: By name, in any case.
    """

    def __init__(self, response: http.client.HTTPResponse, url: str) -> None:
        self._response = response
        self._url = url
        self.headers = response.headers

    def read(self) -> bytes:
        """All that is left of it. Raises NotRunning if it breaks off."""
        with _said_of(self._url):
            return self._response.read()

    def document(self) -> Any:
        """It as JSON; None for an empty one. Raises CommandError if it is none."""
        text = self.read()
        try:
            return jsonio.loads(text) if text else None
        except ValueError:
            raise _no_gateway(self._url) from None

    def lines(self) -> Iterator[bytes]:
        """Its lines as they come, each with its end. Raises NotRunning if it breaks off."""
        while True:
            with _said_of(self._url):
                line = self._response.readline()
            if not line:
                return
            yield line


class Client:
    """Asks one daemon. Every method raises NotRunning, or Refused for a status above 399.

    Args:
        url: Scheme, host and port.
        key: Sent with each request; "": none.
    """

    def __init__(self, url: str, key: str = "") -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
            (parts.hostname or "").encode("idna")
        except ValueError:
            raise _no_url(url) from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise _no_url(url)
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname, port
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def get(self, path: str, *, timeout_s: float = TIMEOUT_S) -> Any:
        """The JSON document that is there."""
        with self.open("GET", path, timeout_s=timeout_s) as reply:
            return reply.document()

    def post(self, path: str, body: Any = None, *, timeout_s: float = TIMEOUT_S) -> Any:
        """The JSON document that this is answered with."""
        with self.open("POST", path, body, timeout_s=timeout_s) as reply:
            return reply.document()

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Iterator[Reply]:
        """An answer as it comes, for streams.

        Args:
            body: A JSON document; None: no body.
            timeout_s: Of silence, on each read.
        """
        connection = self._connection(timeout_s)
        sent = {**self._headers, **(headers or {})}
        data = None
        if body is not None:
            data = jsonio.dumps(body)
            sent["Content-Type"] = "application/json"
        try:
            with _said_of(self.url):
                connection.request(method, path, body=data, headers=sent)
                response = connection.getresponse()
            reply = Reply(response, self.url)
            if response.status >= 400:
                raise _refusal(response, reply.document(), self.url)
            yield reply
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if self._tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout_s, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)


def add_client_options(parser: argparse.ArgumentParser) -> None:
    """`--config` and `--url`, for commands that ask a running daemon."""
    add_config_option(parser)
    parser.add_argument("--url", help="where the gateway listens, instead of as configured")


def connect(arguments: argparse.Namespace) -> Client:
    """A client of the daemon that is meant.

    Raises:
        ConfigError: The configuration that would tell the address is wrong.
        CommandError: It tells none, or `--url` is none.
    """
    url = arguments.url or address_of(read_settings(arguments)[0])
    key = os.environ.get(KEY_VARIABLE, "")
    if key and not (key.isascii() and key.isprintable()):
        raise CommandError(
            f"${KEY_VARIABLE} must be printable ASCII, as keys are, without a line break.",
            exit_code=exit_codes.USAGE,
        )
    return Client(url, key)


def address_of(config: Config) -> str:
    """Where the daemon of this configuration is reached from its own machine.

    Raises:
        CommandError: It takes whatever port is free.
    """
    host, port = bind_address(config)
    if not port:
        raise CommandError(
            "server.port is 0, so only the gateway's log tells its port: name it with --url.",
            exit_code=exit_codes.USAGE,
        )
    host = _THIS_MACHINE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refusal(response: http.client.HTTPResponse, document: Any, url: str) -> CommandError:
    """Our envelope as an error; of something else that it is none of ours."""
    status = response.status
    match document:
        case {"error": {"message": str(message), "code": str(code)}}:
            after_ms = response.headers.get("retry-after-ms")
            after_s = int(after_ms) / 1000.0 if after_ms and after_ms.isdecimal() else None
            return Refused(message, status=status, code=code, retry_after_s=after_s)
        case {"error": str(message)}:  # Under /api/, as Ollama has it.
            return Refused(message, status=status, code="")
        case _:
            return _no_gateway(url)


@contextmanager
def _said_of(url: str) -> Iterator[None]:
    """What goes wrong with the connection, as NotRunning."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise NotRunning(url, _why(error)) from None


def _no_gateway(url: str) -> CommandError:
    return CommandError(f"what answers at {url} is no gateway.", exit_code=exit_codes.UNAVAILABLE)


def _no_url(url: str) -> CommandError:
    return CommandError(
        f"--url: {url!r} must be like http://127.0.0.1:8000.", exit_code=exit_codes.USAGE
    )


def _why(error: Exception) -> str:
    match error:
        case TimeoutError():
            return "it is silent"
        case http.client.IncompleteRead():
            return "its answer broke off"
        case OSError() if error.strerror:
            return error.strerror.lower()
        case _:
            return str(error) or type(error).__name__

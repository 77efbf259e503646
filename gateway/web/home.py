"""GET /: the page for people, and the files that it is made of.

Who asks for HTML gets the page: with all numbers for whoever may see them without a key,
else empty, for a key to fill it in. It keeps none of them, sets no cookie, and can ask
nobody but the gateway that it came from. All others are Ollama's clients.
"""

import hashlib
import html
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Final

import attrs
from aiohttp import ETag, hdrs, web

from gateway.core.clock import Clock
from gateway.core.errors import UnknownRoute
from gateway.core.jsonio import Json
from gateway.web.docs import HTML, base_url
from gateway.web.docs_clients import BASE, settings
from gateway.web.filling import fill
from gateway.web.visit import VISIT

SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Own files alone, and no text that is made into markup or code, wherever it came from."""

TYPES: Final = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
"""Of files by the end of their names; all of them are UTF-8."""

FILES: Final = (
    *("style.css", "icon.svg", "app.js", "chat.js", "copy.js", "fill.js"),
    *("live.js", "net.js", "spark.js", "tabs.js", "turn.js"),
)
"""All that is ever served."""

_RUNNING: Final = b"Ollama is running"
"""What an Ollama says here; there are clients that look for the very words."""


@attrs.frozen
class _File:
    body: bytes
    content_type: str
    tag: str


class Home:
    """What is at the root.

    Args:
        look: Makes the status document.
        may_look: Whether this visitor sees it without a key.
        keyed: Whether this gateway has keys.
    """

    def __init__(
        self,
        *,
        look: Callable[[], dict[str, Json]],
        may_look: Callable[[web.Request], bool],
        keyed: bool,
        clock: Clock,
    ) -> None:
        self._look = look
        self._may_look = may_look
        self._clock = clock
        self._template = _read("index.html").decode()
        self._connect = _connect(keyed=keyed)
        # Made once, since anybody may ask for it.
        self._empty = fill(self._template, {"connect": self._connect})
        self._files: Mapping[str, _File] = {name: _file(name) for name in FILES}

    async def root(self, web_request: web.Request) -> web.Response:
        """The page for browsers; for all others the sign of life that Ollama's clients expect."""
        headers = web_request[VISIT].headers(self._clock.now())
        headers[hdrs.VARY] = hdrs.ACCEPT
        if "text/html" not in web_request.headers.get(hdrs.ACCEPT, ""):
            headers[hdrs.CONTENT_TYPE] = "text/plain; charset=utf-8"
            return web.Response(body=_RUNNING, headers=headers)
        page = self._empty
        if self._may_look(web_request):
            page = fill(self._template, {**self._look(), "connect": self._connect})
        page = page.replace(BASE, html.escape(base_url(web_request)))
        headers[hdrs.CONTENT_TYPE] = HTML
        headers[hdrs.CACHE_CONTROL] = "no-store"
        headers["Content-Security-Policy"] = SECURITY_POLICY
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        return web.Response(body=page.encode(), headers=headers)

    async def file(self, web_request: web.Request) -> web.Response:
        """One of FILES, or nothing if the browser has it already (RFC 9110 section 13.1.2)."""
        file = self._files.get(web_request.match_info["file"])
        if file is None:
            raise UnknownRoute("There is no such URL here.")
        headers = web_request[VISIT].headers(self._clock.now())
        headers[hdrs.CACHE_CONTROL] = "no-cache"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        known = web_request.if_none_match or ()
        if any(entry.value in (file.tag, "*") for entry in known):
            reply = web.Response(status=304, headers=headers)
        else:
            headers[hdrs.CONTENT_TYPE] = f"{file.content_type}; charset=utf-8"
            reply = web.Response(body=file.body, headers=headers)
        reply.etag = ETag(file.tag)
        return reply


def _connect(*, keyed: bool) -> dict[str, Json]:
    """What clients are told, the same as at /docs, with `BASE` for where the gateway is."""
    key = "YOUR_KEY" if keyed else "none"
    return {
        "base": BASE,
        "keyed": keyed,
        "about_keys": f"Put your own key in place of {key}."
        if keyed
        else "No key is needed; clients that insist on one take any text.",
        "clients": [
            {
                "client": client.client,
                "note": client.note,
                "text": client.text,
                "says": f"Copy the settings for {client.client}",
            }
            for client in settings(key=key)
        ],
    }


def _read(name: str) -> bytes:
    return resources.files(__package__).joinpath("page", name).read_bytes()


def _file(name: str) -> _File:
    body = _read(name)
    tag = hashlib.blake2b(body, digest_size=12).hexdigest()
    return _File(body, TYPES[name.rpartition(".")[2]], tag)

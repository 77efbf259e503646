"""A reverse proxy that passes bytes through and does nothing else: what a gateway is measured by.

    python -m bench.raw_proxy --port 8500 --upstream http://127.0.0.1:11500

Written for speed with what aiohttp offers by itself: uvloop, one route for all, one
session with no limit on connections, no cookies, no decompression, no access log, no
timeouts. No queue, no metrics, no log, no translation, no checks.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Final

import aiohttp
import uvloop
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host"}
)
"""RFC 9110, section 7.6.1, and Host, which is the upstream's own."""


def passed_on(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP
    )


class RawProxy:
    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        self._upstream = upstream
        self._session = session

    async def handle(self, web_request: web.Request) -> web.StreamResponse:
        body = await web_request.read()
        async with self._session.request(
            web_request.method,
            self._upstream + web_request.raw_path,
            data=body or None,
            headers=passed_on(web_request.headers),
            allow_redirects=False,
        ) as upstream:
            answer = web.StreamResponse(status=upstream.status, headers=passed_on(upstream.headers))
            await answer.prepare(web_request)
            async for piece in upstream.content.iter_any():
                await answer.write(piece)
            await answer.write_eof()
            return answer


async def application(upstream: str) -> web.Application:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
        trust_env=False,
    )

    async def close_session(_app: web.Application) -> None:
        await session.close()

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", RawProxy(upstream, session).handle)
    app.on_cleanup.append(close_session)
    return app


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench.raw_proxy")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    options = parser.parse_args(arguments)
    web.run_app(
        application(options.upstream),
        host="127.0.0.1",
        port=options.port,
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main(sys.argv[1:])

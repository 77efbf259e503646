"""A gateway that lives through everything that the dashboard shows, and is scraped meanwhile.

Behind it: a simulated Ollama with one slot and room for one of its two models, the
embedded engine, and the one that echoes. Each act causes what some panel is about.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import attrs

from bench import everyday, prometheus
from bench.everyday import Visitor
from bench.processes import START_S_MAX, Child, DidNotStart, free_port
from bench.prometheus import Prometheus
from bench.trials import served
from bench.trials.served import EMBEDDED_MODEL, toml
from bench.wire import HOST

SCRAPE_S: Final = 1.0
ALICE: Final = "sk-alice-0123456789abcdefghijklmnopqr"
BOB: Final = "sk-bob-0123456789abcdefghijklmnopqrst"

BOX: Final = "box:latest"
OTHER: Final = "other:latest"

SEEN_S: Final = 3.5
"""What lasts so long is seen by three scrapes, on a machine that is busy too."""

ENGINES: Final = ("default", "embedded", "echo")

LONG: Final = 4000
"""Tokens: more than are written before somebody ends it."""


@attrs.frozen
class Seen:
    """What there is to ask after the last act."""

    prometheus: Prometheus
    start: float
    end: float


@attrs.define(eq=False)
class Scene:
    """The processes. Those that end are started again on the same port."""

    directory: Path
    port: int = attrs.field(factory=free_port)
    box_port: int = attrs.field(factory=free_port)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def box(self) -> Child:
        return self._child(
            "box",
            [
                *("bench.box", "--port", str(self.box_port)),
                *("--scale", "20", "--models", f"{BOX},{OTHER}"),
            ],
            self.box_port,
            "/api/version",
        )

    def gateway(self) -> Child:
        """With every engine up; /ready is content with the one that has the default model."""
        gateway = self._gateway()
        until = time.monotonic() + START_S_MAX
        while not self._all_up():
            if time.monotonic() > until:
                gateway.stop()
                raise DidNotStart(
                    f"not every engine came up; the log ends:\n{gateway.log()[-2000:]}"
                )
            time.sleep(0.1)
        return gateway

    def _all_up(self) -> bool:
        found = served.metrics(self.url)
        return all(found[f'gateway_upstream_up{{upstream="{name}"}}'] for name in ENGINES)

    def _gateway(self) -> Child:
        config = self.directory / "gateway.toml"
        config.write_text(
            toml(
                {
                    "server": {
                        "host": HOST,
                        "port": self.port,
                        "state_directory": str(self.directory / "state"),
                        "shutdown_grace_seconds": SEEN_S,
                    },
                    "auth.keys": {"alice": ALICE, "bob": BOB},
                    "backend": {"kind": "ollama", "url": f"http://{HOST}:{self.box_port}"},
                    "upstreams.embedded": {"kind": "llamacpp"},
                    "upstreams.echo": {"kind": "echo"},
                    "queue": {"max_queue_size": 6},
                    "generation": {"default_model": BOX},
                }
            )
        )
        command = ["gateway", "serve", "--config", str(config)]
        return self._child("gateway", command, self.port, "/ready")

    def _child(self, name: str, command: list[str], port: int, ready_path: str) -> Child:
        child = Child(
            [sys.executable, "-m", *command],
            port=port,
            ready_path=ready_path,
            log_path=self.directory / f"{name}.log",
            cores=frozenset(os.sched_getaffinity(0)),
        )
        try:
            child.wait_ready()
        except BaseException:
            child.stop()
            raise
        return child


async def everyday_acts(url: str) -> None:
    """Chats with every engine, titles, embeddings, models in turns, bursts, one who leaves."""
    async with everyday.session() as session:
        alice, bob = Visitor(session, url, ALICE), Visitor(session, url, BOB)
        await asyncio.gather(
            alice.chat(BOX, "What is bread?"),
            alice.chat("echo", "What is bread?"),
            alice.chat(EMBEDDED_MODEL, "What is bread?"),
            alice.ask(BOX),
            bob.embed("echo", "flour", "water"),
            bob.embed(EMBEDDED_MODEL, "flour", "water"),
        )
        for model in (OTHER, BOX):
            await bob.chat(model, "What is dough?", max_tokens=8)
        await alice.burst(BOX, 12, timeout_s=60.0)
        await asyncio.gather(alice.burst(BOX, 4, timeout_s=60.0), bob.burst(BOX, 2, timeout_s=0.2))
        await alice.leave(EMBEDDED_MODEL, "Write a long story about a baker.")
        await Visitor(session, url, "sk-nobody").ask(BOX)
        await alice.ask("no-such-model")


async def engine_acts(url: str, box: Child) -> None:
    """The engine stands still until one caller's time is over, and dies under the next."""
    async with everyday.session() as session:
        alice = Visitor(session, url, ALICE)
        os.kill(box.pid, signal.SIGSTOP)
        both = asyncio.gather(
            alice.ask(BOX, headers={"x-request-timeout-ms": "1500"}),
            alice.chat(BOX, "Tell all you know."),
        )
        # Not longer: a health check that fails after 5 s would end both in another way.
        await asyncio.sleep(2.5)
        os.kill(box.pid, signal.SIGKILL)
        await both
        assert alice.seen[504] == 1, alice.seen


async def last_act(scene: Scene, gateway: Child) -> None:
    """It is told to end while an answer is written that is longer than its grace."""
    async with everyday.session() as session:
        alice = Visitor(session, scene.url, ALICE)
        cut_off = asyncio.ensure_future(
            alice.chat(EMBEDDED_MODEL, "Write a very long story.", max_tokens=LONG)
        )
        await asyncio.sleep(1.0)
        gateway.terminate()
        await cut_off
    assert await asyncio.to_thread(gateway.wait_ended, 15.0) == 0, gateway.log()


def _wait_for(watching: prometheus.Prometheus, expr: str) -> None:
    until = time.monotonic() + START_S_MAX
    while not watching.now(expr):
        assert time.monotonic() < until, f"Prometheus has never seen {expr}"
        time.sleep(0.2)


@contextmanager
def played(directory: Path) -> Iterator[Seen]:
    """All acts have been played; the Prometheus that saw them is still there to be asked."""
    scene = Scene(directory)
    with ExitStack() as stack:
        target = f"{HOST}:{scene.port}"
        watching = stack.enter_context(prometheus.scraping(target, directory, every_s=SCRAPE_S))
        start = time.time()
        box = scene.box()
        stack.callback(box.stop)
        gateway = scene.gateway()
        stack.callback(gateway.stop)
        # A counter that has risen before it was first scraped has not risen to any rate().
        _wait_for(watching, "count_over_time(gateway_ready[1m]) >= 2")
        asyncio.run(everyday_acts(scene.url))
        asyncio.run(engine_acts(scene.url, box))
        time.sleep(SEEN_S)
        stack.callback(scene.box().stop)
        asyncio.run(last_act(scene, gateway))
        # The next life begins at once, and could be there before anybody looks.
        _wait_for(watching, 'ALERTS{alertname="GatewayDown"}')
        stack.callback(scene.gateway().stop)
        time.sleep(SEEN_S)
        yield Seen(watching, start, time.time())

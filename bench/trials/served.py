"""What is measured: an engine, and before it the gateway as its user starts it.

All of them are child processes on free ports of loopback. On a box that goes `scale`
times as fast the gateway's own times are divided by it too: what a request has, what a
client is told to wait at the most, and the waits between which the scheduler decides.
"""

import contextlib
import http.client
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from bench import box
from bench.answers import Uniform
from bench.machine import Hardware
from bench.processes import Child, free_port
from bench.wire import HOST
from gateway.config.schema import Config

Tables = Mapping[str, Mapping[str, object]]
"""Settings of the gateway: by table, by key."""

EMBEDDED_MODEL: Final = Config().embedded.model_name
BOX_ANSWERS: Final = Uniform(8, 32)
ENDLESS: Final = Uniform(100_000, 100_000)

REAL_ANSWERS: Final = Uniform(8, 32)
"""Limits of the answers of real models, which are as long as those of the box are by nature."""

_NONE: Final[Tables] = MappingProxyType({})
_IDLE_S_MAX: Final = 60.0
_POLL_S: Final = 0.02
_ASK_S_MAX: Final = 10.0

# Times in which clients and the scheduler live. Those of the network stay real.
_SCALED: Final = (
    ("queue", "batch_wait_ms"),
    ("queue", "retry_after_max_seconds"),
    ("timeouts", "request_timeout_seconds"),
    ("timeouts", "stream_timeout_seconds"),
    ("scheduling", "rejoin_seconds"),
    ("scheduling", "class_wait_max_seconds"),
    ("scheduling", "fairness_quantum_seconds"),
    ("scheduling", "affinity_wait_max_seconds"),
    ("scheduling", "progress_seconds"),
)
_RETRY_AFTER_S_MIN: Final = 1.0
"""Retry-After is told in whole seconds: the gateway takes no smaller bound."""


@attrs.frozen(kw_only=True)
class Served:
    """A gateway and what is behind it.

    Attributes:
        url: Of the gateway.
        engine_url: Of the Ollama, or the box, behind it; None: there is none that
            could be asked directly.
        box_url: Where the box tells what it has done; None: it is no box.
        scale: How many times as fast its world goes.
        max_tokens: Limits to ask for; None where answers end by themselves.
        told: Answers go on until their limits, and so are as long as requests say.
    """

    url: str
    models: tuple[str, ...]
    engine_url: str | None = None
    box_url: str | None = None
    scale: float = 1.0
    max_tokens: Uniform | None = REAL_ANSWERS
    told: bool = False


def settings(scale: float, *more: Tables) -> dict[str, dict[str, object]]:
    """The gateway's times for a world that goes `scale` times as fast, and more.

    Args:
        more: Tables of settings; later ones win over earlier ones.
    """
    default = Config()
    tables: dict[str, dict[str, object]] = {}
    if scale != 1.0:
        for table, key in _SCALED:
            tables.setdefault(table, {})[key] = getattr(getattr(default, table), key) / scale
        retry_after_s = default.queue.retry_after_max_seconds / scale
        tables["queue"]["retry_after_max_seconds"] = max(_RETRY_AFTER_S_MIN, retry_after_s)
    for some in more:
        for table, values in some.items():
            tables.setdefault(table, {}).update(values)
    return tables


def toml(tables: Tables) -> str:
    """Numbers, texts and lists of them are written alike in JSON and in TOML."""
    return "\n".join(
        f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        for table, values in tables.items()
    )


@contextlib.contextmanager
def gateway(directory: Path, tables: Tables) -> Iterator[str]:
    """The gateway while the block lasts; yields its URL.

    Raises:
        DidNotStart: It did not get ready.
    """
    port = free_port()
    path = directory / f"gateway-{port}.toml"
    own: Tables = {
        "server": {"host": HOST, "port": port},
        "logging": {"level": "info", "format": "json"},
    }
    path.write_text(
        toml({**own, **tables, "server": {**own["server"], **tables.get("server", {})}})
    )
    child = _child(
        [sys.executable, "-m", "gateway", "serve", "--config", str(path)],
        port=port,
        ready_path="/ready",
        log_path=directory / f"gateway-{port}.log",
    )
    with child:
        child.wait_ready()
        yield f"http://{HOST}:{port}"


@contextlib.contextmanager
def boxed(
    directory: Path,
    *,
    scale: float,
    models: tuple[str, ...] = ("box:latest",),
    more: Tables = _NONE,
    told: bool = False,
) -> Iterator[Served]:
    """The simulated box, with room for one model, behind the gateway. `told`: see Served."""
    port = free_port()
    command = [sys.executable, "-m", "bench.box", "--port", str(port)]
    command += ["--scale", str(scale), "--models", ",".join(models)]
    lengths = box_settings(scale, told=told).lengths
    if isinstance(lengths, Uniform):
        command += ["--lengths", f"{lengths.low}-{lengths.high}"]
    child = _child(
        command, port=port, ready_path="/api/version", log_path=directory / f"box-{port}.log"
    )
    with child:
        child.wait_ready()
        engine_url = f"http://{HOST}:{port}"
        with gateway(directory, settings(scale, _before(engine_url, models[0]), more)) as url:
            yield Served(
                url=url,
                models=models,
                engine_url=engine_url,
                box_url=engine_url,
                scale=scale,
                max_tokens=BOX_ANSWERS if told else None,
                told=told,
            )


def box_settings(scale: float, *, told: bool = False) -> box.Settings:
    """How `boxed` sets up the box: what it will answer can be foreseen."""
    return box.Settings(hardware=Hardware(scale=scale), lengths=ENDLESS if told else BOX_ANSWERS)


@contextlib.contextmanager
def embedded(directory: Path, more: Tables = _NONE) -> Iterator[Served]:
    """The gateway with the model that it runs itself."""
    tables: Tables = {
        "backend": {"kind": "llamacpp"},
        "generation": {"default_model": EMBEDDED_MODEL},
        **more,
    }
    with gateway(directory, tables) as url:
        yield Served(url=url, models=(EMBEDDED_MODEL,))


@contextlib.contextmanager
def ollama(
    directory: Path, *, models: tuple[str, ...] = (), more: Tables = _NONE
) -> Iterator[Served]:
    """A real Ollama of our own behind the gateway: one slot, and room for one model.

    It takes its models from where the user's takes them, $OLLAMA_MODELS or his home.

    Args:
        models: Those to ask; none: all that it has, by name.

    Raises:
        DidNotStart: There is no such program or no such model, or it did not get ready.
    """
    program = os.environ.get("OLLAMA_BIN") or shutil.which("ollama")
    if program is None:
        raise FileNotFoundError("no Ollama: put `ollama` on PATH, or name it by OLLAMA_BIN")
    port = free_port()
    kept = {name: os.environ[name] for name in ("OLLAMA_MODELS",) if name in os.environ}
    child = _child(
        [program, "serve"],
        port=port,
        ready_path="/api/version",
        log_path=directory / f"ollama-{port}.log",
        environment={
            "OLLAMA_HOST": f"{HOST}:{port}",
            "OLLAMA_NOPRUNE": "1",
            "OLLAMA_NUM_PARALLEL": "1",
            "OLLAMA_MAX_LOADED_MODELS": "1",
            **kept,
        },
    )
    with child:
        child.wait_ready()
        engine_url = f"http://{HOST}:{port}"
        listed = json.loads(ask(engine_url, "/api/tags"))["models"]
        models = models or tuple(sorted(model["name"] for model in listed))
        if not models:
            raise FileNotFoundError("this Ollama has no model")
        with gateway(directory, settings(1.0, _before(engine_url, models[0]), more)) as url:
            yield Served(url=url, models=models, engine_url=engine_url)


def ask(url: str, path: str, *, method: str = "GET") -> bytes:
    """One request, aside from any load.

    Raises:
        ConnectionError: It was not answered 200.
    """
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_ASK_S_MAX)
    with contextlib.closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise ConnectionError(f"{method} {url}{path}: status {response.status}")
        return body


def metrics(url: str) -> dict[str, float]:
    """The gateway's series, labels as they are written."""
    lines = ask(url, "/metrics").decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def box_state(url: str) -> dict[str, Any]:
    """What the box has done since it was last reset."""
    state: dict[str, Any] = json.loads(ask(url, "/box/state"))
    return state


def reset_box(url: str) -> None:
    """Wait until the box has nothing to do, and let it count from 0.

    Raises:
        TimeoutError: It still had something to do after a minute.
    """
    until = time.monotonic() + _IDLE_S_MAX
    while (state := box_state(url))["running"] or state["waiting"]:
        if time.monotonic() > until:
            raise TimeoutError(f"the box is still busy: {state}")
        time.sleep(_POLL_S)
    ask(url, "/box/reset", method="POST")


def _before(engine_url: str, model: str) -> Tables:
    return {
        "backend": {"kind": "ollama", "url": engine_url},
        "generation": {"default_model": model},
    }


def _child(
    command: list[str],
    *,
    port: int,
    ready_path: str,
    log_path: Path,
    environment: Mapping[str, str] | None = None,
) -> Child:
    # The box takes next to nothing of a core: no need to keep one for what is measured.
    return Child(
        command,
        port=port,
        ready_path=ready_path,
        log_path=log_path,
        cores=frozenset(os.sched_getaffinity(0)),
        environment=environment,
    )

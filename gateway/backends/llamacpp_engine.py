"""The process around llama.cpp: loads one model and serves it over loopback until nobody wants it.

It is a process of its own because a fault in native code ends a process. Run
by `gateway.backends.llamacpp`, and by hand as

    python -m gateway.backends.llamacpp_engine <<< '{"model_path": "model.gguf", …}'

stdin: one line, the fields of `Settings` as JSON; then its end means that the
parent is gone, and so ends this process. stdout: one line, `{"url": …}` once
requests are served, or `{"error": …}` before exit 1. stderr: what llama.cpp
complains about.

Imports the standard library and `xllamacpp` alone, so that it starts at once.
"""

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HOST: Final = "127.0.0.1"

_PORT_ATTEMPTS: Final = 5
_GGUF_MAGIC: Final = b"GGUF"

_PROMPT_CACHE_MIB: Final = 256
"""Evaluated prompts kept for later turns; llama.cpp's own default of 8 GiB is the whole box."""

_SPIN_COUNT: Final = "1000"
"""How long a compute thread spins for the others (libgomp's unit) before it sleeps.

Two threads on two cores, tokens/s of one answer: 80 with libgomp's default, 80
with this, 25 without spinning. With two other busy processes beside it: 14, 27
and 19; at times 2 with the default, whose threads burn the very time slices
that the thread they wait for would need. `poll` of llama.cpp's own thread pool
does nothing here: xllamacpp is built with OpenMP.
"""

_HTTP_THREADS_SPARE: Final = 8
"""Beyond one for each slot: probes, and idle connections, which hold a thread for 5 s."""

_QUIET: Final = 0
"""Not even errors: some of llama.cpp's quote the prompt."""

_LOUD: Final = 1


class CannotServe(Exception):
    """A sentence on why there is no engine."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to serve, and how.

    Attributes:
        model_path: A .gguf file.
        model_name: What the model is called in the API.
        slots: Requests that run at once.
        context_length: Tokens of each slot.
        threads: Compute threads; 0: one for each core that this process may use.
        api_key: Without it nobody on this machine gets an answer.
        chat_template: A Jinja file; None: the model's own.
    """

    model_path: str
    model_name: str
    slots: int
    context_length: int
    threads: int
    api_key: str
    chat_template: str | None


def main() -> None:
    die_with_parent()
    # What native code may print goes to stderr: stdout is for the one line.
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        settings = Settings(**json.loads(sys.stdin.readline()))
        # Kept, because the server ends with its object.
        server = serve(settings)
    except CannotServe as error:
        print(json.dumps({"error": str(error)}), file=told, flush=True)
        sys.exit(1)
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps({"url": server.listening_address}), file=told, flush=True)
        # A thread could not watch earlier: loading holds the interpreter's lock.
        sys.stdin.read()
    # No orderly end: it would wait for answers that nobody reads any more.
    os._exit(0)


def serve(settings: Settings) -> Any:
    """Load the model and listen on a free port of the loopback address.

    Returns:
        xllamacpp's server, which serves for as long as it is referenced.

    Raises:
        CannotServe: No xllamacpp, no such file, not a model, not one that this
            llama.cpp knows, or not enough memory.
    """
    check_model(Path(settings.model_path))
    # libgomp reads it when it is loaded, which is now.
    os.environ.setdefault("GOMP_SPINCOUNT", _SPIN_COUNT)
    try:
        import xllamacpp
    except ImportError as error:
        raise CannotServe(f"xllamacpp can't be imported: {error}") from error
    for _ in range(_PORT_ATTEMPTS):
        params = parameters(xllamacpp, settings, port=free_port())
        try:
            return xllamacpp.Server(params)
        except RuntimeError:
            # One exception for everything. Somebody may have been faster at the port.
            if is_free(params.port):
                break
    else:
        raise CannotServe(f"no free port on {HOST} in {_PORT_ATTEMPTS} attempts")
    # Once more, for stderr to say what is wrong with the model. No prompt is near.
    params.verbosity = _LOUD
    with contextlib.suppress(RuntimeError):
        xllamacpp.Server(params)
    raise CannotServe(f"llama.cpp can't load {settings.model_path}")


def parameters(xllamacpp: Any, settings: Settings, *, port: int) -> Any:
    """Ours in llama.cpp's words."""
    params = xllamacpp.CommonParams()
    params.model.path = settings.model_path
    params.model_alias = {settings.model_name}
    params.n_parallel = settings.slots
    # The context of all slots together.
    params.n_ctx = settings.slots * settings.context_length
    params.cpuparams.n_threads = settings.threads or cores()
    params.cpuparams_batch.n_threads = settings.threads or cores()
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    params.use_jinja = True
    if settings.chat_template is not None:
        params.chat_template = Path(settings.chat_template).read_text("utf-8")
    params.hostnames = [HOST]
    params.port = port
    params.api_keys = [settings.api_key]
    params.n_threads_http = settings.slots + _HTTP_THREADS_SPARE
    # A ping is a sign of life of the HTTP thread, not of the model that it waits for.
    params.sse_ping_interval = -1
    params.ui = False
    # Shows prompts.
    params.endpoint_slots = False
    params.verbosity = _QUIET
    return params


def check_model(path: Path) -> None:
    """Raises CannotServe for what llama.cpp would refuse without a reason."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except OSError as error:
        raise CannotServe(f"the model {path} can't be read: {error.strerror}") from error
    if magic != _GGUF_MAGIC:
        raise CannotServe(f"{path} is not a GGUF file")


def cores() -> int:
    """Cores that this process may use, which in a container are not all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_port() -> int:
    """A port that was free just now; llama.cpp can't be handed a socket."""
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    try:
        with socket.create_server((HOST, port)):
            return True
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False


def die_with_parent() -> None:
    """Have Linux kill this process with its parent, also while the model loads."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


if __name__ == "__main__":
    main()

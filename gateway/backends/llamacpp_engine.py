"""The process around llama.cpp: loads one model and serves it over loopback until nobody wants it.

It is a process of its own because a fault in native code ends a process. Run
by `gateway.backends.llamacpp`, and by hand as

    python -m gateway.backends.llamacpp_engine <<< '{"model_path": "model.gguf", …}'

stdin: one line, the fields of `Settings` as JSON; then its end means that the
parent is gone, and so ends this process. stdout: one line,
`{"url": …, "embeddings_url": …}` once requests are served, or `{"error": …}`
before exit 1. stderr: what llama.cpp complains about.

Text and embeddings have a server each, around the same weights. llama.cpp never
computes the two together, and one server would let embeddings wait for as long
as anybody's answer runs.

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
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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

_SEQUENCES: Final = 16
"""Inputs that are embedded together. They share one context, so more cost no memory."""

_EMBEDDED_AT_ONCE: Final = 256
"""Tokens of all these inputs. llama.cpp also computes what might follow each token, which
nobody wants here: 0.4 MB a token with the packaged model's vocabulary."""

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
        embeds_only: The model is made for embeddings, and generates no text.
    """

    model_path: str
    model_name: str
    slots: int
    context_length: int
    threads: int
    api_key: str
    chat_template: str | None
    embeds_only: bool = False


def main() -> None:
    die_with_parent()
    # What native code may print goes to stderr: stdout is for the one line.
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        settings = Settings(**json.loads(sys.stdin.readline()))
        # Kept, because a server ends with its object.
        text, embeddings = serve(settings)
    except CannotServe as error:
        print(json.dumps({"error": str(error)}), file=told, flush=True)
        sys.exit(1)
    with contextlib.suppress(BrokenPipeError):
        urls = {"url": text.listening_address, "embeddings_url": embeddings.listening_address}
        print(json.dumps(urls), file=told, flush=True)
        # A thread could not watch earlier: loading holds the interpreter's lock.
        sys.stdin.read()
    # No orderly end: it would wait for answers that nobody reads any more.
    os._exit(0)


def serve(settings: Settings) -> tuple[Any, Any]:
    """Load the model and listen on free ports of the loopback address.

    Returns:
        xllamacpp's servers for text and for embeddings, one and the same where the model
        has only these. They serve for as long as they are referenced.

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
    embedder = partial(embedding_parameters, xllamacpp, settings)
    if settings.embeds_only:
        embeddings = listen(xllamacpp, settings, embedder)
        return embeddings, embeddings
    text = listen(xllamacpp, settings, partial(parameters, xllamacpp, settings))
    return text, listen(xllamacpp, settings, embedder)


def listen(xllamacpp: Any, settings: Settings, parameters_at: Callable[..., Any]) -> Any:
    """One server. Raises CannotServe.

    Args:
        parameters_at: Called with the `port`.
    """
    for _ in range(_PORT_ATTEMPTS):
        params = parameters_at(port=free_port())
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


def embedding_parameters(xllamacpp: Any, settings: Settings, *, port: int) -> Any:
    """Those of the server for embeddings."""
    params = parameters(xllamacpp, settings, port=port)
    params.embedding = True
    params.n_parallel = _SEQUENCES
    params.n_ctx = settings.context_length
    # One context for all. With one for each, inputs of different lengths are computed in
    # pieces of equal length, and a mean is that of the last piece alone (xllamacpp 2026.10).
    params.kv_unified = True
    # Nobody sends the same text again and again.
    params.cache_ram_mib = 0
    # No copy of the weights in an order of its own: both servers then share the file's pages.
    params.no_extra_bufts = True
    if settings.embeds_only:
        # It pools as it was trained to, and needs an input in one piece for that.
        params.n_batch = params.n_ubatch = settings.context_length
    else:
        # The last token has seen all others. Also what Ollama does, whose vectors these are.
        params.n_batch = params.n_ubatch = _EMBEDDED_AT_ONCE
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
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

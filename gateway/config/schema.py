"""Every setting: its type, default, unit and bound. One frozen value for the whole daemon.

The docstring under a field is its one line in the manual; `conf/gateway.toml`
shows each with its default, and a test holds the two together.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import attrs
from attrs.validators import ge, gt, in_, le, max_len, min_len, optional

MIB: Final = 1024 * 1024
INT32_MAX: Final = 2**31 - 1

_positive = gt(0)
_positive_s = gt(0.0)
_not_negative = ge(0)

BackendKind = Literal["auto", "ollama", "openai", "llamacpp", "echo"]
SlotCount = int | Literal["auto"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "text"]
PriorityName = Literal["interactive", "normal", "batch"]


def _at_least_one_or_auto(instance: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
    if value != "auto":
        ge(1)(instance, attribute, value)


@attrs.frozen(kw_only=True)
class Server:
    """Where the daemon listens and how it ends."""

    host: str = attrs.field(default="", validator=max_len(253))
    """Address to bind; empty: 127.0.0.1, or 0.0.0.0 once an API key is set."""

    port: int = attrs.field(default=8000, validator=[ge(0), le(65535)])
    """Port to bind; 0 takes a free one and says which."""

    allow_anonymous: bool = False
    """Serve a public address although no API key is set."""

    allowed_hosts: tuple[str, ...] = ()
    """Host headers served besides localhost and the bind address (against DNS rebinding)."""

    allowed_origins: tuple[str, ...] = ()
    """Browser origins that may send requests; none by default, `*` is refused."""

    metrics_public: bool = False
    """Serve /metrics, /ready, /docs, /openapi.json without a key to all (loopback always may)."""

    local_admin: bool = True
    """Root and the gateway's own user may do on this machine what a key with `admin` may."""

    shutdown_grace_seconds: float = attrs.field(default=30.0, validator=_positive_s)
    """After SIGTERM: how long what was accepted may take to end."""

    state_directory: str = ""
    """Where the daemon keeps what must outlive it; empty: $STATE_DIRECTORY or nowhere."""

    usage_days: int = attrs.field(default=400, validator=[ge(1), le(36_500)])
    """Days of which it is kept what each caller has used; the oldest go first."""


@attrs.frozen(kw_only=True)
class Auth:
    """Who may call."""

    api_key: str = attrs.field(default="", repr=False)
    """One key for everybody; empty: none."""

    api_key_file: str = ""
    """A file whose one line is that key; for systemd's LoadCredential."""

    keys_file: str = ""
    """Where `gateway keys` keeps them; empty: keys.toml beside the configuration file."""

    keys: dict[str, str] = attrs.field(factory=dict, repr=False)
    """Name → key; the name stands in logs and metrics, the key nowhere."""


@attrs.frozen(kw_only=True)
class Queue:
    """How many wait, and how they are handed to slots."""

    max_queue_size: int = attrs.field(default=50, validator=[ge(0), le(100_000)])
    """Requests that wait for a slot before a further one is refused with 503."""

    batch_max_size: int = attrs.field(default=8, validator=[ge(1), le(1024)])
    """Requests that the worker grants in one turn at the most."""

    batch_wait_ms: float = attrs.field(default=100.0, validator=[ge(0.0), le(60_000.0)])
    """How long the worker collects while every slot is busy; never waited while one is free."""

    embed_batch_items_max: int = attrs.field(default=64, validator=[ge(1), le(2048)])
    """Texts of waiting embedding requests that go into one call of the engine; 1: never joined."""

    embed_batch_chars_max: int = attrs.field(default=32_768, validator=_not_negative)
    """Characters of all texts in such a call."""

    retry_after_max_seconds: float = attrs.field(default=120.0, validator=[ge(1.0), le(86_400.0)])
    """The longest Retry-After of a refusal; SDKs give up above 120."""


@attrs.frozen(kw_only=True)
class Scheduling:
    """Who is let in, and who goes next. Each rule can be switched off."""

    deadlines: bool = True
    """Refuse at once what would not be answered in time."""

    safety: float = attrs.field(default=1.5, validator=[ge(0.0), le(10.0)])
    """Standard deviations of an estimate that are kept free before a deadline."""

    truncate_at_deadline: bool = True
    """A whole answer that reaches its deadline is returned as far as it came, as `length`."""

    reservations: bool = True
    """Hold the place of whom was refused, for when it was told to come back."""

    reservations_max: int = attrs.field(default=1000, validator=[ge(0), le(100_000)])
    """Places held at once."""

    rejoin: bool = True
    """A retry of a request that still runs, or has just ended, gets that answer."""

    rejoin_seconds: float = attrs.field(default=1.5, validator=[ge(0.0), le(600.0)])
    """How long an answer goes on without its client, where that one is known to retry."""

    rejoin_bytes_max: int = attrs.field(default=8 * MIB, validator=_not_negative)
    """Answers kept for clients that come back, together."""

    priorities: bool = True
    """Interactive before normal before batch."""

    batch_share: float = attrs.field(default=0.5, validator=[gt(0.0), le(1.0)])
    """The part of the time before a deadline that batch requests may fill."""

    class_wait_max_seconds: float = attrs.field(default=30.0, validator=_positive_s)
    """How long a request waits behind a more urgent class at the most."""

    fairness: bool = True
    """Callers of one class share the slots by their weights, in seconds."""

    fairness_quantum_seconds: float = attrs.field(default=5.0, validator=[ge(0.0), le(3600.0)])
    """Seconds of a slot by which one may get ahead, to use what is loaded."""

    newcomer_share: float = attrs.field(default=0.2, validator=[ge(0.0), le(0.9)])
    """The part of the time before a deadline that one caller leaves to others."""

    model_affinity: bool = True
    """Stay with the model that is loaded while changing it costs more than it saves."""

    prefix_affinity: bool = True
    """Prefer the prompt that shares most with what a slot holds."""

    affinity_wait_max_seconds: float = attrs.field(default=20.0, validator=_positive_s)
    """How long a request lets others go first whose model or prompt is loaded."""

    session_headers: tuple[str, ...] = (
        "x-openwebui-chat-id",
        "x-session-id",
        "x-conversation-id",
        "x-session-affinity",
        "x-claude-code-session-id",
        "session-id",
        "session_id",
    )
    """Headers that name a conversation."""

    background_prompts: tuple[str, ...] = ("### Task:",)
    """What a last message begins with that a chat UI sends by itself; it runs as batch."""

    progress_seconds: float = attrs.field(default=5.0, validator=[ge(0.0), le(3600.0)])
    """A waiting stream is told its place this often, as a comment; 0: never."""


@attrs.frozen(kw_only=True)
class CallerSettings:
    """How one caller is treated, by its name in auth.keys; `anonymous` without a key."""

    priority: PriorityName = attrs.field(
        default="normal", validator=in_(("interactive", "normal", "batch"))
    )
    """Class of its requests: interactive, normal or batch."""

    priority_max: PriorityName = attrs.field(
        default="normal", validator=in_(("interactive", "normal", "batch"))
    )
    """The most urgent class that it may ask for, by service_tier or x-gateway-priority."""

    weight: float = attrs.field(default=1.0, validator=[gt(0.0), le(1000.0)])
    """Its share of the slots against others of its class."""

    user_header: str = attrs.field(default="", validator=max_len(64))
    """Header in which it names its end users, such as X-OpenWebUI-User-Id; each has a share."""

    manage_models: bool = False
    """May pull, push, create, copy, delete and unload Ollama's models."""

    admin: bool = False
    """May see everybody's requests and usage, reload the configuration, load and unload models."""

    models: tuple[str, ...] = ()
    """The models that it may ask for, as it names them; empty: all."""

    requests_per_minute: int = attrs.field(default=0, validator=_not_negative)
    """Requests that it may send in a minute; 0: no limit, as for the four below."""

    tokens_per_minute: int = attrs.field(default=0, validator=_not_negative)
    """Tokens of its prompts and answers in a minute."""

    tokens_per_day: int = attrs.field(default=0, validator=_not_negative)
    """Tokens of its prompts and answers in a day of UTC."""

    requests_at_once: int = attrs.field(default=0, validator=_not_negative)
    """Requests that run and wait at the same time."""

    max_tokens: int = attrs.field(default=0, validator=_not_negative)
    """Tokens of any answer; a larger wish is cut to this."""


@attrs.frozen(kw_only=True)
class Timeouts:
    """A length for each phase, in seconds. 0 is refused: nothing waits for ever."""

    request_timeout_seconds: float = attrs.field(default=60.0, validator=_positive_s)
    """A whole answer; of a stream: until its first token."""

    stream_timeout_seconds: float = attrs.field(default=600.0, validator=_positive_s)
    """A stream from arrival to its end."""

    connect_timeout_seconds: float = attrs.field(default=2.0, validator=_positive_s)
    """To open a connection to the engine."""

    first_byte_timeout_seconds: float = attrs.field(default=120.0, validator=_positive_s)
    """From a request sent to the engine until its first byte; covers a model load."""

    stall_timeout_seconds: float = attrs.field(default=60.0, validator=_positive_s)
    """Between two pieces of an engine's answer."""

    head_timeout_seconds: float = attrs.field(default=10.0, validator=_positive_s)
    """From a new connection until its first request's headers are complete."""

    body_timeout_seconds: float = attrs.field(default=30.0, validator=_positive_s)
    """For a client to send its body."""

    write_timeout_seconds: float = attrs.field(default=30.0, validator=_positive_s)
    """For a client that reads nothing, until it is cut off."""

    keepalive_timeout_seconds: float = attrs.field(default=75.0, validator=_positive_s)
    """A client's idle connection."""


@attrs.frozen(kw_only=True)
class Limits:
    """Bounds on everything a client or an engine can send."""

    body_bytes_max: int = attrs.field(default=4 * MIB, validator=_positive)
    """A request's body."""

    bodies_in_flight_bytes_max: int = attrs.field(default=64 * MIB, validator=_positive)
    """All bodies being read at once."""

    connections_max: int = attrs.field(default=1024, validator=_positive)
    """Open client connections; the oldest that sent no request yet gives way first."""

    connections_reserved: int = attrs.field(default=16, validator=_not_negative)
    """Connections beyond that, on which only /health is answered."""

    connections_per_address_max: int = attrs.field(default=64, validator=_positive)
    """Connections of one client address; loopback is exempt, a local proxy stands for many."""

    wrong_keys_per_minute_max: int = attrs.field(default=20, validator=_positive)
    """Wrong or missing keys that one address may send in a minute before it has to wait."""

    messages_max: int = attrs.field(default=2048, validator=_positive)
    """Messages in one request."""

    tools_max: int = attrs.field(default=512, validator=_positive)
    """Tools in one request."""

    tools_bytes_max: int = attrs.field(default=256 * 1024, validator=_positive)
    """All tool schemas of one request."""

    images_max: int = attrs.field(default=32, validator=_not_negative)
    """Images in one request."""

    image_bytes_max: int = attrs.field(default=5 * MIB, validator=_positive)
    """One image, decoded."""

    upstream_line_bytes_max: int = attrs.field(default=1 * MIB, validator=_positive)
    """One line of an engine's answer."""

    upstream_answer_bytes_max: int = attrs.field(default=16 * MIB, validator=_positive)
    """An engine's whole answer."""


@attrs.frozen(kw_only=True)
class Generation:
    """What is generated, where the caller does not say or says too much."""

    default_model: str = attrs.field(default="llama3.2", validator=[min_len(1), max_len(256)])
    """Loaded at start-up, and what the model name `default` means."""

    warm_up: bool = True
    """Load the default model and run one token through it at start-up."""

    max_tokens_default: int = attrs.field(default=2048, validator=_positive)
    """Tokens of an answer whose request names no limit; Ollama's own default can run for hours."""

    max_tokens_max: int = attrs.field(default=8192, validator=_positive)
    """Tokens of any answer; a larger wish is cut to this."""

    num_ctx_max: int = attrs.field(default=32_768, validator=_positive)
    """The largest context a caller may ask of Ollama by num_ctx."""

    strict_params: bool = False
    """Answer 400 to a parameter that can't be honoured, instead of naming it in a header."""


@attrs.frozen(kw_only=True)
class ModelOptions:
    """How tokens are drawn where the caller does not say; unset: as the model has it."""

    temperature: float | None = attrs.field(default=None, validator=optional([ge(0.0), le(2.0)]))
    """0 for the likeliest token always; the higher, the more surprising."""

    top_p: float | None = attrs.field(default=None, validator=optional([ge(0.0), le(1.0)]))
    """Draw from the likeliest tokens that together have this probability."""

    top_k: int | None = attrs.field(default=None, validator=optional([ge(-1), le(INT32_MAX)]))
    """Draw from so many of the likeliest tokens."""

    min_p: float | None = attrs.field(default=None, validator=optional([ge(0.0), le(1.0)]))
    """Draw no token that is less likely than this part of the likeliest."""

    seed: int | None = None
    """Where the dice begin: the same request has the same answer, as far as the engine can."""

    stop: tuple[str, ...] = ()
    """Up to 4 texts; each ends the answer where it appears."""

    presence_penalty: float | None = attrs.field(
        default=None, validator=optional([ge(-2.0), le(2.0)])
    )
    """Against tokens that have appeared at all."""

    frequency_penalty: float | None = attrs.field(
        default=None, validator=optional([ge(-2.0), le(2.0)])
    )
    """Against tokens, the more often they have appeared."""

    repeat_penalty: float | None = attrs.field(
        default=None, validator=optional([gt(0.0), le(10.0)])
    )
    """Against tokens that have appeared lately; 1: none."""

    repeat_last_n: int | None = attrs.field(
        default=None, validator=optional([ge(-1), le(INT32_MAX)])
    )
    """How many tokens back repeat_penalty looks; -1: the whole context."""

    typical_p: float | None = attrs.field(default=None, validator=optional([ge(0.0), le(1.0)]))
    """Draw from tokens that are about as surprising as expected."""

    num_keep: int | None = attrs.field(default=None, validator=optional([ge(-1), le(INT32_MAX)]))
    """Tokens of the prompt that Ollama keeps should it ever cut one."""

    mirostat: int | None = attrs.field(default=None, validator=optional([ge(0), le(2)]))
    """Keep the surprise level: 0 off, 1 or 2 the version of it."""

    mirostat_tau: float | None = attrs.field(default=None, validator=optional([ge(0.0), le(1e6)]))
    """The level that mirostat keeps."""

    mirostat_eta: float | None = attrs.field(default=None, validator=optional([ge(0.0), le(1e6)]))
    """How fast mirostat corrects it."""


@attrs.frozen(kw_only=True)
class ModelSettings:
    """What one model name means, in every API. The name itself may be made up."""

    target: str = attrs.field(default="", validator=max_len(256))
    """The model that runs when this name is asked for, or `default`; empty: the name itself."""

    num_ctx: int = attrs.field(default=0, validator=[ge(0), le(1_048_576)])
    """Tokens that Ollama allocates for the model, whatever a caller asks; 0: Ollama's choice."""

    keep_alive: str = attrs.field(default="", validator=max_len(64))
    """How long it stays in memory, such as 30m, or -1m for ever; a caller may say otherwise."""

    max_tokens: int = attrs.field(default=0, validator=_not_negative)
    """Tokens of any answer; a larger wish is cut to this; 0: generation.max_tokens_max alone."""

    system: str = attrs.field(default="", validator=max_len(65_536))
    """Said to the model before all else, also before a caller's own system message."""

    options: ModelOptions = ModelOptions()
    """How tokens are drawn where the caller does not say; unset: as the model has it."""


@attrs.frozen(kw_only=True)
class Backend:
    """One engine."""

    kind: BackendKind = attrs.field(
        default="auto", validator=in_(("auto", "ollama", "openai", "llamacpp", "echo"))
    )
    """auto (an Ollama that answers, else the embedded model), ollama, openai, llamacpp, echo."""

    url: str = "http://localhost:11434"
    """Where the engine listens: scheme, host and port, no path."""

    api_key: str = attrs.field(default="", repr=False)
    """The engine's own key, if it wants one; a client's key is never passed on."""

    slots: SlotCount = attrs.field(default="auto", validator=_at_least_one_or_auto)
    """Requests that the engine runs at once; auto: found out while it serves, from 1 upwards."""

    models: tuple[str, ...] = ()
    """Offer these models of the engine alone; empty: all that it lists."""


@attrs.frozen(kw_only=True)
class Embedded:
    """The llama.cpp that the daemon runs itself when there is no Ollama."""

    model_path: str = ""
    """A .gguf file; empty: the small model that is installed with the `embedded` extra."""

    model_name: str = "smollm2:135m"
    """What the model is called in the API."""

    slots: int = attrs.field(default=4, validator=[ge(1), le(64)])
    """Requests that it runs at once."""

    context_length: int = attrs.field(default=4096, validator=[ge(256), le(1_048_576)])
    """Tokens of prompt and answer together, for each slot."""

    threads: int = attrs.field(default=0, validator=[ge(0), le(1024)])
    """CPU threads; 0: one for each core."""


@attrs.frozen(kw_only=True)
class Logging:
    """What is told, and how."""

    level: LogLevel = attrs.field(
        default="info", validator=in_(("debug", "info", "warning", "error"))
    )
    """debug, info, warning or error."""

    format: LogFormat = attrs.field(default="auto", validator=in_(("auto", "json", "text")))
    """json, text, or auto: text on a terminal, else JSON."""

    sample: float = attrs.field(default=1.0, validator=[ge(0.0), le(1.0)])
    """The part of requests that went well which is told; all others are, whatever this says."""

    levels: dict[str, LogLevel] = attrs.field(factory=dict)
    """Logger → its own level, such as "gateway.engine" = "debug"."""


@attrs.frozen(kw_only=True)
class Tracing:
    """Traces by OpenTelemetry; needs the `otel` extra."""

    endpoint: str = ""
    """Collector that takes OTLP over HTTP, such as http://localhost:4318; empty: no traces."""

    headers: dict[str, str] = attrs.field(factory=dict, repr=False)
    """Sent along to it, such as the authorization that it asks for."""

    sample_ratio: float = attrs.field(default=1.0, validator=[ge(0.0), le(1.0)])
    """The part of traces that begin here which is sent; of one that a client began, as it says."""

    service_name: str = attrs.field(default="gateway", validator=[min_len(1), max_len(255)])
    """What the collector knows the gateway by."""


_NO_SETTING: Final[Mapping[str, Any]] = {"setting": False}


def is_setting(field: "attrs.Attribute[Any]") -> bool:
    """Whether an operator may write it: False for what is read from elsewhere."""
    return bool(field.metadata.get("setting", True))


@attrs.frozen(kw_only=True)
class StoredKey:
    """A key that `gateway keys` has made.

    Attributes:
        digest: What is left of it, see core/api_key.py.
        created: When it was made; None where nobody noted it.
        expires: From when on it opens nothing; None: never.
    """

    digest: bytes = attrs.field(repr=False)
    created: datetime | None = None
    expires: datetime | None = None


@attrs.frozen(kw_only=True)
class Config:
    """The whole configuration."""

    server: Server = Server()
    auth: Auth = Auth()
    callers: dict[str, CallerSettings] = attrs.field(factory=dict)
    queue: Queue = Queue()
    scheduling: Scheduling = Scheduling()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    generation: Generation = Generation()
    models: dict[str, ModelSettings] = attrs.field(factory=dict)
    backend: Backend = Backend()
    upstreams: dict[str, Backend] = attrs.field(factory=dict)
    embedded: Embedded = Embedded()
    logging: Logging = Logging()
    tracing: Tracing = Tracing()
    stored_keys: dict[str, StoredKey] = attrs.field(factory=dict, repr=False, metadata=_NO_SETTING)
    """Name → key, out of auth.keys_file; how these callers are treated is in `callers`."""

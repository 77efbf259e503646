"""What a new configuration changes, and what of that a running daemon can take up. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from gateway.config.keys import Key, dotted, quoted
from gateway.config.schema import Config

NEEDS_RESTART: Final[Mapping[Key, str]] = {
    ("server", "host"): "the address is bound at the start",
    ("server", "port"): "the port is bound at the start",
    ("server", "state_directory"): "what is kept there is read at the start",
    ("server", "usage_days"): "what is kept there is read at the start",
    ("limits", "upstream_line_bytes_max"): "engines' drivers are made with it",
    ("limits", "upstream_answer_bytes_max"): "engines' drivers are made with it",
    ("generation", "warm_up"): "it is done at the start",
    ("embedded",): "its process is started with these",
    ("logging", "format"): "the log is opened with it",
    ("tracing",): "the exporter is started with it",
}
"""Setting or table → why a running daemon can't take up another value of it."""

APPLIES_AT_ONCE: Final[Mapping[Key, str]] = {
    ("server", "allow_anonymous"): "checked at each reload",
    ("server", "allowed_hosts"): "for the next request",
    ("server", "allowed_origins"): "for the next request",
    ("server", "metrics_public"): "for the next request",
    ("server", "local_admin"): "for the next request",
    ("server", "shutdown_grace_seconds"): "when the daemon ends",
    ("auth",): "for the next request; a key that is gone is refused, what runs with it ends",
    ("callers",): "for the next request",
    ("queue",): "for the next request; who waits keeps its place",
    ("scheduling",): "for the next decision",
    ("timeouts",): "for the next request; of connections for the next one",
    ("limits", "body_bytes_max"): "for the next request",
    ("limits", "bodies_in_flight_bytes_max"): "for the next request",
    ("limits", "connections_max"): "for the next connection",
    ("limits", "connections_reserved"): "for the next connection",
    ("limits", "connections_per_address_max"): "for the next connection",
    ("limits", "wrong_keys_per_minute_max"): "for the next request",
    ("limits", "messages_max"): "for the next request",
    ("limits", "tools_max"): "for the next request",
    ("limits", "tools_bytes_max"): "for the next request",
    ("limits", "images_max"): "for the next request",
    ("limits", "image_bytes_max"): "for the next request",
    ("generation", "default_model"): "for the next request, which loads it",
    ("generation", "max_tokens_default"): "for the next request",
    ("generation", "max_tokens_max"): "for the next request",
    ("generation", "num_ctx_max"): "for the next request",
    ("generation", "strict_params"): "for the next request",
    ("models",): "for the next request; another `num_ctx` loads the model again",
    ("backend",): "a changed engine takes the place of the old one, which ends what it runs",
    ("upstreams",): "one that is new joins, one that is gone ends what it runs",
    ("logging", "level"): "for the next line",
    ("logging", "levels"): "for the next line",
    ("logging", "sample"): "for the next line",
}
"""Setting or table → from when another value holds. A setting is here or above, and only once."""

HIDDEN: Final = "(hidden)"


@attrs.frozen(kw_only=True)
class Change:
    """One key that is not what it was.

    Attributes:
        key: Of a value, or of an entry of a table whose names the operator picks.
        was, now: As the file would have it; a secret is hidden, and what is not there is "".
        restart: Why it has to wait for a restart; "" where it has not.
    """

    key: Key
    was: str
    now: str
    restart: str = ""

    def words(self) -> str:
        """For one line of a terminal or a log."""
        if not self.was or not self.now:
            return f"{dotted(self.key)} {'added' if self.now else 'removed'}"
        if self.was == self.now == HIDDEN:
            return f"{dotted(self.key)} changed"
        return f"{dotted(self.key)}: {self.was} -> {self.now}"


def changes(old: Config, new: Config) -> list[Change]:
    """Every key that differs, in the schema's order."""
    return list(_differing((), old, new, secret=False))


def kept(running: Config, new: Config) -> Config:
    """What holds after a reload: the new one, but for what needs a restart."""
    for key in NEEDS_RESTART:
        new = _with(new, running, key)
    return new


def why_restart(key: Key) -> str:
    """Why this key has to wait for a restart; "" where it has not."""
    return next((why for table, why in NEEDS_RESTART.items() if key[: len(table)] == table), "")


def _differing(key: Key, old: Any, new: Any, *, secret: bool) -> Iterator[Change]:
    if old == new:
        return
    if attrs.has(type(old)):
        for field in attrs.fields(type(old)):
            yield from _differing(
                (*key, field.name),
                getattr(old, field.name),
                getattr(new, field.name),
                secret=secret or not field.repr,
            )
    elif isinstance(old, Mapping):
        for name in dict.fromkeys((*old, *new)):
            if name in old and name in new:
                yield from _differing((*key, name), old[name], new[name], secret=secret)
            else:
                was, now = _there(name, old), _there(name, new)
                yield Change(key=(*key, name), was=was, now=now, restart=why_restart(key))
    else:
        was, now = (HIDDEN, HIDDEN) if secret else (_written(old), _written(new))
        yield Change(key=key, was=was, now=now, restart=why_restart(key))


def _with(new: Any, old: Any, key: Key) -> Any:
    """The new one with what the old one has under a key."""
    name, *rest = key
    value = getattr(old, name)
    if rest:
        value = _with(getattr(new, name), value, tuple(rest))
    return attrs.evolve(new, **{name: value})


def _there(name: str, table: Mapping[str, Any]) -> str:
    """Of an entry of a table: whether it is there is all that is told."""
    return "there" if name in table else ""


def _written(value: Any) -> str:
    """A value as TOML has it, about."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return quoted(value)
        case tuple():
            return f"[{', '.join(map(_written, value))}]"
        case None:
            return "unset"
        case _:
            return str(value)

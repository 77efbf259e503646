"""What model names mean to callers: which model runs, and what holds where they don't say. Pure.

`[models.NAME]` of the configuration, applied to a request before anything else
sees it, and so the same in every dialect. Two rules beside "who asks wins":
`max_tokens` is a cap, and the system text is said before the caller's own.
`num_ctx` is not here: it belongs to a model in an engine's memory, whatever
name it is asked for by, and so to the backend that allocates it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import attrs

from gateway.config.effective import DEFAULT_MODEL, model_behind, untagged
from gateway.config.schema import ModelSettings
from gateway.core.messages import (
    EmbedRequest,
    Message,
    Request,
    Role,
    Sampling,
    TextPart,
)
from gateway.core.models import ModelInfo

R = TypeVar("R", bound=Request)

_SAMPLING: Final = frozenset(field.name for field in attrs.fields(Sampling))
_UNSET: Final = (None, ())


@attrs.frozen(kw_only=True)
class Meaning:
    """What one name means.

    Attributes:
        alias_of: The model that runs; None: the one of this name.
        sampling: Fields of `Sampling`, for those that the caller leaves open.
        extensions: The same for parameters of one engine.
        stay: How long it stays in memory, as such a parameter; also where texts are embedded.
        max_tokens: Of any answer; None: no cap of its own.
        system: Before the conversation; "": nothing.
    """

    alias_of: str | None = None
    sampling: Mapping[str, Any] = attrs.field(factory=dict)
    extensions: Mapping[str, Any] = attrs.field(factory=dict)
    stay: Mapping[str, Any] = attrs.field(factory=dict)
    max_tokens: int | None = None
    system: str = ""


_ITSELF: Final = Meaning()


class Catalogue:
    """All names that mean something of their own. A name with the tag `:latest` is the same name.

    Args:
        settings: Name → what is configured of it.
        default_model: What the name `default` stands for; never an alias.

    Attributes:
        aliases: Name → the model that runs instead.
    """

    def __init__(
        self,
        settings: Mapping[str, ModelSettings] | None = None,
        *,
        default_model: str = DEFAULT_MODEL,
    ) -> None:
        settings = settings or {}
        self._default_model = default_model
        self.aliases: Mapping[str, str] = {
            name: model_behind(name, one, default_model)
            for name, one in settings.items()
            if one.target
        }
        self._meanings = {
            untagged(name): _meaning(one, self.aliases.get(name)) for name, one in settings.items()
        }

    def shown(self, name: str) -> str:
        """The name to give an answer, of the name that was asked for."""
        return self._default_model if name == DEFAULT_MODEL else name

    def spelled(self, name: str) -> str:
        """The one spelling of a name that has several."""
        return untagged(self.shown(name))

    def named(self, name: str) -> str:
        """The model that runs when this name is asked for."""
        name = self.shown(name)
        return self._meaning_of(name).alias_of or name

    def applied(self, request: R) -> R:
        """The request for the model that runs, with what holds where the caller doesn't say.

        `params` stays as it is: the caller is told of nothing that it has not set.
        """
        model = self.named(request.model)
        meaning = self._meaning_of(self.shown(request.model))
        if meaning is _ITSELF:
            return request if model == request.model else attrs.evolve(request, model=model)
        extensions = {**meaning.stay, **request.extensions}
        if isinstance(request, EmbedRequest):
            return attrs.evolve(request, model=model, extensions=extensions)
        return attrs.evolve(
            request,
            model=model,
            messages=_begun_with(meaning.system, request.messages),
            sampling=_filled(request.sampling, meaning.sampling),
            max_tokens=_capped(request.max_tokens, meaning.max_tokens),
            extensions={**meaning.extensions, **extensions},
        )

    def listed(
        self, models: Iterable[ModelInfo], find: Callable[[str], ModelInfo | None]
    ) -> list[ModelInfo]:
        """The models as callers see them, and each alias of one after them.

        Left out are models that can't be asked for, since their name means another,
        and aliases whose model is not there.

        Args:
            models: All that the engines have.
            find: The one of them that a name means to its engine.
        """
        own = [model for model in models if self._meaning_of(model.id).alias_of is None]
        behind = ((alias, find(model)) for alias, model in self.aliases.items())
        return own + [
            attrs.evolve(model, id=alias, alias_of=model.id)
            for alias, model in behind
            if model is not None
        ]

    def described(self, name: str, model: ModelInfo) -> ModelInfo:
        """A model, as whoever asked for it by this name sees it."""
        if self._meaning_of(name).alias_of is None:
            return model
        return attrs.evolve(model, id=name, alias_of=model.id)

    def _meaning_of(self, name: str) -> Meaning:
        return self._meanings.get(untagged(name), _ITSELF)


def _meaning(settings: ModelSettings, alias_of: str | None) -> Meaning:
    options = {
        name: value
        for name, value in attrs.asdict(settings.options, recurse=False).items()
        if value not in _UNSET
    }
    return Meaning(
        alias_of=alias_of,
        sampling={name: value for name, value in options.items() if name in _SAMPLING},
        extensions={name: value for name, value in options.items() if name not in _SAMPLING},
        stay={"keep_alive": settings.keep_alive} if settings.keep_alive else {},
        max_tokens=settings.max_tokens or None,
        system=settings.system,
    )


def _filled(sampling: Sampling, defaults: Mapping[str, Any]) -> Sampling:
    missing = {name: value for name, value in defaults.items() if getattr(sampling, name) in _UNSET}
    return attrs.evolve(sampling, **missing) if missing else sampling


def _capped(asked: int | None, cap: int | None) -> int | None:
    return min((count for count in (asked, cap) if count is not None), default=None)


def _begun_with(system: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation with a text said first.

    Together with the caller's own where that comes first: many chat templates
    have room for one system message, and drop or refuse another.
    """
    if not system or not messages:
        return messages
    first, *others = messages
    if first.role is not Role.SYSTEM:
        return (Message(role=Role.SYSTEM, content=system), *messages)
    content = first.content
    if isinstance(content, str):
        joined = attrs.evolve(first, content=f"{system}\n\n{content}" if content else system)
    else:
        joined = attrs.evolve(first, content=(TextPart(system), *content))
    return (joined, *others)

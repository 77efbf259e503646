"""The list of models as OpenAI's clients read it, with what our engines know besides."""

from collections.abc import Iterable
from typing import Protocol

from gateway.core import jsonio
from gateway.core.jsonio import Json


class Model(Protocol):
    """What is shown of a model; a backend's `ModelInfo` is one.

    `context_length` is what is really allocated for one request,
    `context_length_max` what the model was trained for, tokens both; None and
    empty: not known. `alias_of` is the engine's own name of it, where the id is
    one that the operator has given.
    """

    @property
    def id(self) -> str: ...
    @property
    def created(self) -> int: ...
    @property
    def owned_by(self) -> str: ...
    @property
    def context_length(self) -> int | None: ...
    @property
    def context_length_max(self) -> int | None: ...
    @property
    def loaded(self) -> bool | None: ...
    @property
    def size_bytes(self) -> int | None: ...
    @property
    def capabilities(self) -> tuple[str, ...]: ...
    @property
    def alias_of(self) -> str: ...


def listing(models: Iterable[Model]) -> bytes:
    """The body of GET /v1/models, in the order given."""
    return jsonio.dumps({"object": "list", "data": [_card(model) for model in models]})


def single(model: Model) -> bytes:
    """The body of GET /v1/models/{id}."""
    return jsonio.dumps(_card(model))


def _card(model: Model) -> dict[str, Json]:
    """OpenAI's four fields, and ours where they are known."""
    card: dict[str, Json] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
    }
    extras = {
        "context_length": model.context_length,
        "context_length_max": model.context_length_max,
        "loaded": model.loaded,
        "size_bytes": model.size_bytes,
        "capabilities": list(model.capabilities) or None,
        "alias_of": model.alias_of or None,
    }
    return card | {name: value for name, value in extras.items() if value is not None}

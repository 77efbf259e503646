"""The list of models as OpenAI's clients read it, with what our engines know besides."""

from collections.abc import Iterable

from gateway.core import jsonio
from gateway.core.jsonio import Json
from gateway.core.models import ModelInfo


def listing(models: Iterable[ModelInfo]) -> bytes:
    """The body of GET /v1/models, in the order given."""
    return jsonio.dumps({"object": "list", "data": [_card(model) for model in models]})


def single(model: ModelInfo) -> bytes:
    """The body of GET /v1/models/{id}."""
    return jsonio.dumps(_card(model))


def _card(model: ModelInfo) -> dict[str, Json]:
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

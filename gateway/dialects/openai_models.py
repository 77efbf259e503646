"""The list of models, one for all clients: OpenAI's fields, Anthropic's, and what engines know.

Sources: openai-python 3.54, types/model.py; anthropic-python 2.12, types/model_info.py and
pagination.py. The names that both have mean the same.
"""

from collections.abc import Iterable

from gateway.core import jsonio
from gateway.core.jsonio import Json
from gateway.core.models import ModelInfo
from gateway.dialects.base import moment


def listing(models: Iterable[ModelInfo]) -> bytes:
    """The body of GET /v1/models, in the order given."""
    cards = [_card(model) for model in models]
    return jsonio.dumps(
        {
            "object": "list",
            "data": cards,
            "has_more": False,
            "first_id": cards[0]["id"] if cards else None,
            "last_id": cards[-1]["id"] if cards else None,
        }
    )


def single(model: ModelInfo) -> bytes:
    """The body of GET /v1/models/{id}."""
    return jsonio.dumps(_card(model))


def _card(model: ModelInfo) -> dict[str, Json]:
    """OpenAI's four fields, Anthropic's, and ours where they are known."""
    card: dict[str, Json] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "type": "model",
        "display_name": model.id,
        # Where nobody knows it is the epoch, to Anthropic too.
        "created_at": moment(model.created),
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

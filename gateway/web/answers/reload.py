"""What a reload answers, as a JSON Schema; gateway/web/reload.py makes it."""

from collections.abc import Mapping
from typing import Final

from gateway.web.answers.words import TEXT, Schema, fields, listed, or_nothing, word

_CHANGE: Final[Mapping[str, Schema]] = {
    "key": TEXT,
    "was": {**or_nothing(TEXT), "description": "null: it was not there"},
    "now": {**or_nothing(TEXT), "description": "null: it is there no more"},
    "words": {**TEXT, "description": "the change in a line"},
}

RELOADED: Final = fields(
    {
        "object": word("gateway.reload"),
        "applied": listed(fields(_CHANGE)),
        "needs_restart": listed(fields({**_CHANGE, "why": TEXT})),
        "notes": listed(TEXT),
    },
    title="Reloaded",
)

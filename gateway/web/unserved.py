"""The parts of known APIs that are not served here, and why. Pure.

Who asks for one is told so in a sentence, with a status of its own, instead of that there is
no such URL. Nothing of a body is read.
"""

from collections.abc import Mapping
from typing import Final

_KEEPS_NOTHING: Final = "The gateway keeps nothing between two requests:"

UNSERVED: Final[Mapping[str, str]] = {
    "/v1/audio": "No engine here makes speech or listens to it.",
    "/v1/images": "No engine here makes images. Models that see take them in a message.",
    "/v1/videos": "No engine here makes videos.",
    "/v1/realtime": "There are no realtime sessions here; stream an answer instead.",
    "/v1/moderations": "No engine here moderates content.",
    "/v1/batches": "There are no batch jobs here; send the requests, service_tier flex can wait.",
    "/v1/messages/batches": "There are no batch jobs here; send the messages one by one.",
    "/v1/files": f"{_KEEPS_NOTHING} there are no files.",
    "/v1/uploads": f"{_KEEPS_NOTHING} there are no uploads.",
    "/v1/vector_stores": f"{_KEEPS_NOTHING} there are no vector stores.",
    "/v1/containers": f"{_KEEPS_NOTHING} there are no containers.",
    "/v1/responses/compact": "No model here compacts a conversation; send less of it.",
    "/v1/conversations": f"{_KEEPS_NOTHING} send the whole conversation each time.",
    "/v1/assistants": f"{_KEEPS_NOTHING} there are no assistants.",
    "/v1/threads": f"{_KEEPS_NOTHING} there are no threads.",
    "/v1/skills": f"{_KEEPS_NOTHING} there are no skills.",
    "/v1/chatkit": f"{_KEEPS_NOTHING} there are no ChatKit sessions.",
    "/v1/fine_tuning": "No engine here trains models.",
    "/v1/evals": "The gateway evaluates no models.",
    "/v1/organization": "There is no organisation here; callers and keys are in the configuration.",
    "/v1/complete": "This API is older than messages: use /v1/messages.",
}
"""Path → a sentence; what stands below the path is not served either."""


def why(path: str) -> str:
    """Why there is no such URL; empty where it belongs to nothing that is known."""
    parts = path.split("/", 4)
    return UNSERVED.get("/".join(parts[:4])) or UNSERVED.get("/".join(parts[:3]), "")

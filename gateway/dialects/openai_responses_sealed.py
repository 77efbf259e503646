"""What a model thought, in a form that a client carries back unread: `encrypted_content`.

A client that keeps no state here sends earlier items again, and some drop what
was thought unless it is sealed. OpenAI encrypts it, to hide it. Here the client
sees it in the clear anyway, so the seal is an encoding and no secret.
"""

import base64
from typing import Final

_MARK: Final = "gateway."
"""Tells ours from what another server has sealed."""


def seal(text: str) -> str:
    return _MARK + base64.urlsafe_b64encode(text.encode()).decode()


def unseal(sealed: str) -> str | None:
    """The text; None where it was not sealed here, or is broken."""
    if not sealed.startswith(_MARK):
        return None
    try:
        return base64.urlsafe_b64decode(sealed.removeprefix(_MARK)).decode()
    except ValueError:  # binascii.Error, or no UTF-8
        return None

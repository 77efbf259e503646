"""Images that come inside the request, as `data:` URLs or bare base64. Nothing is ever fetched.

A gateway that fetches an address for a caller fetches it from inside the
network (CVE-2025-6242 and its kin); so every other scheme is refused unread.
"""

import binascii
import re
from typing import Final

from gateway.core.errors import InvalidRequest, TooLarge
from gateway.core.jsonio import Json
from gateway.core.messages import ImagePart
from gateway.dialects import fields

_DATA_URL = re.compile(r"data:(image/[a-z]+);base64,", re.IGNORECASE)
_HEAD_CHARS_MAX: Final = 40

# The third is not registered, but what many clients write.
_MEDIA_TYPES: Final = ("image/png", "image/jpeg", "image/jpg", "image/webp")


def data_url(value: Json, path: str, *, bytes_max: int) -> ImagePart:
    """Read a `data:image/…;base64,…` URL.

    Raises:
        InvalidRequest: Another scheme or type, broken base64, or bytes that are
            no such image. Which of them it is its bytes say: many a client names
            a PNG a JPEG.
        TooLarge: More than `bytes_max` bytes when decoded.
    """
    if not isinstance(value, str):
        raise fields.invalid(path, "a data: URL")
    head = _DATA_URL.match(value[:_HEAD_CHARS_MAX])
    if head is None or head[1].lower() not in _MEDIA_TYPES:
        raise InvalidRequest(
            f"'{path}' must be a data:image/png, image/jpeg or image/webp URL in base64:"
            " images are sent with the request, nothing is fetched.",
            param=path,
        )
    data = value[head.end() :]
    media_type = _kind(_decoded(data, path, bytes_max, "valid base64 after the comma"))
    if media_type is None:
        raise fields.invalid(path, "a PNG, JPEG or WebP image")
    return ImagePart(data=data, media_type=media_type)


def base64_image(value: Json, path: str, *, bytes_max: int) -> ImagePart:
    """Read an image of which nothing but its bytes says what it is.

    Raises:
        InvalidRequest: Broken base64, or none of the types that `data_url` takes.
        TooLarge: As there.
    """
    if not isinstance(value, str):
        raise fields.invalid(path, "an image in base64")
    media_type = _kind(_decoded(value, path, bytes_max, "valid base64"))
    if media_type is None:
        raise fields.invalid(path, "a PNG, JPEG or WebP image in base64")
    return ImagePart(data=value, media_type=media_type)


def _decoded(data: str, path: str, bytes_max: int, expected: str) -> bytes:
    """The bytes of an image; see `data_url` for what is raised."""
    too_large = TooLarge(f"'{path}' is an image of more than {bytes_max} bytes.", param=path)
    if len(data) // 4 * 3 > bytes_max + 2:
        raise too_large
    try:
        image = binascii.a2b_base64(data, strict_mode=True)
    except ValueError:  # binascii.Error, or characters beyond ASCII
        raise fields.invalid(path, expected) from None
    if len(image) > bytes_max:
        raise too_large
    return image


def _kind(image: bytes) -> str | None:
    """The media type by the first bytes."""
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if image.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if image.startswith(b"RIFF") and image[8:12] == b"WEBP":
        return "image/webp"
    return None

import base64
import hashlib
import re

from gateway.core.api_key import DIGEST_BYTES, KEY_BYTES, ApiKey, digest_of, new_key


def test_a_new_key_is_all_the_random_bytes_in_text_that_every_header_takes() -> None:
    drawn = bytes(range(0xE0, 0x100))
    key = new_key(lambda size: drawn[:size])
    assert re.fullmatch(r"sk-[A-Za-z0-9_-]{43}", key)
    assert base64.urlsafe_b64decode(key.removeprefix("sk-") + "=") == drawn
    assert len(drawn) == KEY_BYTES


def test_a_digest_is_sha256_of_what_the_header_held() -> None:
    assert digest_of("sk-a") == hashlib.sha256(b"sk-a").digest()
    assert digest_of("\udcff") == hashlib.sha256(b"\xff").digest()
    assert len(digest_of("")) == DIGEST_BYTES


def test_a_digest_is_never_shown() -> None:
    assert "aaaa" not in repr(ApiKey(digest=b"a" * 32))

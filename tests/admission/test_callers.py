import hashlib

import pytest

from gateway.admission.callers import Callers, require_manager
from gateway.core.api_key import ApiKey, digest_of
from gateway.core.errors import NotPermitted, Unauthorized
from gateway.core.ticket import ANONYMOUS, Caller, Priority

KEY = "sk-a-key-that-is-long-enough"
OTHER = "sk-another-key-that-is-as-long"


KEYS = {"alice": ApiKey(digest=digest_of(KEY)), "bob": ApiKey(digest=digest_of(OTHER))}
NOW_S = 1_800_000_000.0


@pytest.fixture
def callers() -> Callers:
    return Callers(KEYS)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_known_key_names_its_caller_whatever_the_case_of_the_scheme(
    callers: Callers, scheme: str
) -> None:
    assert callers.identify([f"{scheme} {KEY}"], [], wall_s=NOW_S).name == "alice"
    assert callers.identify([f"{scheme} {OTHER}"], [], wall_s=NOW_S).name == "bob"


def test_x_api_key_does_as_well(callers: Callers) -> None:
    assert callers.identify([], [KEY], wall_s=NOW_S).name == "alice"
    assert callers.identify([f"Bearer {KEY}"], [KEY], wall_s=NOW_S).name == "alice"


@pytest.mark.parametrize(
    "authorization",
    [
        [],
        [""],
        ["Bearer"],
        ["Bearer "],
        ["Bearer wrong"],
        [f"Bearer {KEY[:-1]}"],
        [f"Bearer {KEY}x"],
        [f"Bearer {KEY.upper()}"],
        [f"Basic {KEY}"],
        [KEY],
        ["Bearer null"],
        ["Bearer None"],
        ["Bearer *"],
        ["Bearer ' OR 1=1 --"],
        ["Bearer \udcff\udcfe"],
        ["Bearer " + "k" * 7000],
        [f"Bearer {KEY}", f"Bearer {OTHER}"],
        [f"Bearer [{KEY}]"],
    ],
)
def test_anything_else_is_refused_with_one_and_the_same_sentence(
    callers: Callers, authorization: list[str]
) -> None:
    with pytest.raises(Unauthorized) as caught:
        callers.identify(authorization, [], wall_s=NOW_S)
    with pytest.raises(Unauthorized) as usual:
        callers.identify([], [], wall_s=NOW_S)
    assert caught.value.message == usual.value.message


def test_an_empty_credential_beside_the_key_says_nothing(callers: Callers) -> None:
    """SDKs send one for the variable that was not set."""
    name = callers.identify([f"Bearer {KEY}"], [], wall_s=NOW_S).name
    assert callers.identify([f"Bearer {KEY}"], [""], wall_s=NOW_S).name == name
    assert callers.identify(["Bearer "], [KEY], wall_s=NOW_S).name == name


def test_two_credentials_that_differ_are_refused_even_if_one_is_right(callers: Callers) -> None:
    with pytest.raises(Unauthorized):
        callers.identify([f"Bearer {KEY}"], [OTHER], wall_s=NOW_S)


def test_the_hash_of_a_key_is_no_key(callers: Callers) -> None:
    with pytest.raises(Unauthorized):
        callers.identify([], [hashlib.sha256(KEY.encode()).hexdigest()], wall_s=NOW_S)


def test_a_key_opens_until_it_expires_and_then_only_its_holder_is_told_why() -> None:
    callers = Callers({**KEYS, "carol": ApiKey(digest=digest_of("c" * 40), expires_at=NOW_S)})
    assert callers.identify([], ["c" * 40], wall_s=NOW_S - 1.0).name == "carol"
    with pytest.raises(Unauthorized, match="has expired"):
        callers.identify([], ["c" * 40], wall_s=NOW_S)
    with pytest.raises(Unauthorized, match="Incorrect API key"):
        callers.identify([], ["c" * 39], wall_s=NOW_S)
    assert callers.identify([], [KEY], wall_s=NOW_S).name == "alice"


def test_every_key_is_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append(right)
        return left == right

    monkeypatch.setattr("gateway.admission.callers.hmac.compare_digest", compare)
    for sent in (KEY, OTHER, "sk-wrong"):
        compared.clear()
        try:
            Callers(KEYS).identify([], [sent], wall_s=NOW_S)
        except Unauthorized:
            pass
        assert compared == [key.digest for key in KEYS.values()]


def test_without_keys_everybody_is_anonymous() -> None:
    callers = Callers({})
    assert callers.open
    assert callers.identify(["Bearer whatever"], [], wall_s=NOW_S).name == "anonymous"


def test_a_caller_is_treated_as_configured_and_all_others_as_usual() -> None:
    alice = Caller("alice", priority=Priority.BATCH, weight=2.0)
    callers = Callers(KEYS, {"alice": alice})
    assert callers.identify([], [KEY], wall_s=NOW_S) is alice
    assert callers.identify([], [OTHER], wall_s=NOW_S) == Caller("bob")


def test_models_are_managed_by_those_who_may_alone() -> None:
    require_manager(Caller("alice", manage_models=True))
    for caller in (Caller("bob"), ANONYMOUS):
        with pytest.raises(NotPermitted, match="manage_models"):
            require_manager(caller)


def test_nobody_in_particular_is_treated_as_configured_too() -> None:
    anonymous = Caller(ANONYMOUS.name, user_header="X-User")
    assert Callers({}, {ANONYMOUS.name: anonymous}).identify([], [], wall_s=NOW_S) is anonymous

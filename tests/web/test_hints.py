import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.config.schema import Scheduling
from gateway.core.ticket import NO_HINTS, Caller, Hints, Priority
from gateway.web.hints import fingerprint_of, hints_of

USER = "X-OpenWebUI-User-Id"
TRUSTED = Caller("ui", user_header=USER)
SESSION = "x-session-id"


def hints(headers: dict[str, str], caller: Caller = TRUSTED) -> Hints:
    return hints_of(
        CIMultiDictProxy(CIMultiDict(headers)),
        caller,
        fingerprint=b"",
        session_headers=Scheduling().session_headers,
    )


def test_most_requests_say_nothing() -> None:
    assert hints({"Host": "localhost", "Authorization": "Bearer key"}) == NO_HINTS


@pytest.mark.parametrize(
    ("headers", "said_s"),
    [
        ({"x-request-timeout-ms": "30000"}, 30.0),
        ({"x-stainless-read-timeout": "30"}, 30.0),
        ({"X-Stainless-Timeout": "30"}, 30.0),
        ({"x-stainless-read-timeout": "600", "x-request-timeout-ms": "2500"}, 2.5),
        ({"x-stainless-read-timeout": "0.5", "x-stainless-timeout": "20"}, 0.5),
        ({"x-stainless-read-timeout": "nan", "x-stainless-timeout": "20"}, 20.0),
        ({"x-stainless-read-timeout": "-1", "x-stainless-timeout": "20"}, 20.0),
    ],
)
def test_the_shortest_time_holds_less_a_little_for_the_way_back(
    headers: dict[str, str], said_s: float
) -> None:
    timeout_s = hints(headers).timeout_s
    assert timeout_s is not None
    assert said_s - 1.0 <= timeout_s < said_s
    assert timeout_s >= said_s * 0.98


def test_never_more_than_a_second_goes_to_the_way_back() -> None:
    assert hints({"x-stainless-timeout": "600"}).timeout_s == 599.0


@pytest.mark.parametrize(
    "text", ["", "soon", "0", "-5", "nan", "inf", "-inf", "1e999", "60s", "NOT_GIVEN", "5, 5"]
)
@pytest.mark.parametrize(
    "name", ["x-request-timeout-ms", "x-stainless-read-timeout", "x-stainless-timeout"]
)
def test_a_time_that_is_none_is_not_heard(name: str, text: str) -> None:
    assert hints({name: text}).timeout_s is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("2", 2),
        ("100", 100),
        ("101", None),
        ("", None),
        ("-1", None),
        ("1.0", None),
        ("²", None),
        ("1" * 5000, None),
    ],
)
def test_how_often_a_client_has_retried(text: str, count: int | None) -> None:
    assert hints({"x-stainless-retry-count": text}).retry_count == count


@pytest.mark.parametrize(
    ("text", "priority"),
    [
        ("interactive", Priority.INTERACTIVE),
        ("Normal", Priority.NORMAL),
        ("BATCH", Priority.BATCH),
        ("urgent", None),
        ("0", None),
        ("", None),
    ],
)
def test_a_class_goes_by_its_name(text: str, priority: Priority | None) -> None:
    assert hints({"x-gateway-priority": text}).priority is priority


def test_a_place_is_a_plain_id() -> None:
    assert hints({"x-gateway-place": "aB3_-9"}).place == "aB3_-9"
    for odd in ("", "a b", "a/b", "a.b", "é", "a" * 65):
        assert hints({"x-gateway-place": odd}).place == ""


def test_an_end_user_is_heard_only_from_a_caller_whose_word_is_taken() -> None:
    said = {USER: "user-1", SESSION: "7"}
    assert hints(said).user == "user-1"
    assert hints(said, Caller("other")).user == ""
    assert hints(said, Caller("other", user_header="X-Other")).user == ""


def test_a_plain_name_is_kept_and_any_other_is_a_digest_of_its_own() -> None:
    plain = ["anna", "Anna", "anna@example.org", "3f2a-77", "a" * 128]
    odd = ["a" * 129, "a" * 200, "anna b", "anna/b", "änna", "\udce4nna", "\x7f", "~anna"]
    named = [hints({USER: name}).user for name in plain + odd]
    assert named[: len(plain)] == plain
    assert len(set(named)) == len(named)
    # Whoever gives a digest for a name is not taken for whom it belongs to.
    assert hints({USER: named[-1]}).user != named[-1]


def test_the_first_header_that_says_something_names_the_conversation() -> None:
    both = {"x-conversation-id": "two", SESSION: "one"}
    assert hints(both) == hints({SESSION: "one"})
    assert hints({**both, SESSION: ""}) == hints({"x-conversation-id": "two"})


def test_conversations_of_two_callers_or_two_users_never_meet() -> None:
    users: list[dict[str, str]] = [{USER: "a"}, {USER: "b"}, {}]
    callers = (Caller("ui", user_header=USER), Caller("cli", user_header=USER))
    sessions = [
        hints({**user, SESSION: "1"}, caller).session for user in users for caller in callers
    ]
    assert "" not in sessions
    assert len(set(sessions)) == len(sessions)


@given(
    names=st.lists(
        st.sampled_from(
            (
                "x-request-timeout-ms",
                "x-stainless-read-timeout",
                "x-stainless-retry-count",
                "x-gateway-priority",
                "x-gateway-place",
                USER,
                SESSION,
            )
        ),
        unique=True,
    ),
    text=st.text(max_size=300),
)
def test_whatever_is_said_what_is_heard_is_short_and_plain(names: list[str], text: str) -> None:
    heard = hints(dict.fromkeys(names, text))
    for word in (heard.user, heard.session, heard.place):
        assert len(word) <= 300
        assert word.isascii()
        assert word.isprintable()
    assert heard.timeout_s is None or heard.timeout_s > 0.0


def test_the_same_body_is_known_again_however_it_came() -> None:
    assert fingerprint_of(b"{}") == fingerprint_of(bytearray(b"{}"))
    assert fingerprint_of(b"{}") != fingerprint_of(b"{ }")
    assert len(fingerprint_of(b"x" * 100_000)) == 16
    # The same bytes ask for something else in another API.
    assert fingerprint_of(b"{}", b"OpenAIChat") != fingerprint_of(b"{}", b"OllamaGenerate")

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends import echo_tokens
from gateway.backends.echo import EchoBackend
from gateway.backends.echo_tokens import EchoTokenizer
from gateway.core.errors import InvalidRequest
from gateway.core.messages import Finished, GenerateRequest, Message, Prompt, Role
from gateway.core.tokens import Spelling
from tests.fakes import ManualClock

CHAT = GenerateRequest(
    model="echo",
    messages=(Message(Role.SYSTEM, "be  brief"), Message(Role.USER, " say\nthree words ")),
)


def text(words: str) -> GenerateRequest:
    return GenerateRequest(model="echo", prompts=(Prompt(words),))


async def test_a_prompt_has_as_many_tokens_as_an_answer_to_it_tells() -> None:
    clock = ManualClock()
    backend = EchoBackend(clock=clock)
    async with backend.open(CHAT) as stream:
        events = await stream.read()
    assert isinstance(events[-1], Finished)
    count = await backend.tokenizer.count(CHAT)
    assert count == events[-1].usage.prompt == 5
    assert len((await backend.tokenizer.tokenize(CHAT, Spelling())).ids) == count


@given(st.text())
async def test_what_is_taken_apart_can_be_put_together(words: str) -> None:
    tokenizer = EchoTokenizer()
    found = await tokenizer.tokenize(text(words), Spelling(pieces=True))
    assert len(found.ids) == len(words.split())
    assert found.pieces is not None
    assert all(0 <= number < 2**31 for number in found.ids)
    if words.split():
        assert "".join(map(str, found.pieces)) == words
        assert await tokenizer.detokenize("echo", found.ids) == words


async def test_a_word_has_one_number() -> None:
    one = await EchoTokenizer().tokenize(text("a b a "), Spelling())
    other = await EchoTokenizer().tokenize(text("a "), Spelling())
    assert one.ids[0] == one.ids[2] == other.ids[0] != one.ids[1]


async def test_a_number_of_nothing_is_told() -> None:
    with pytest.raises(InvalidRequest) as caught:
        await EchoTokenizer().detokenize("echo", [7])
    assert caught.value.param == "tokens"


async def test_only_so_many_words_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo_tokens, "REMEMBERED_MAX", 3)
    tokenizer = EchoTokenizer()
    for word in "abcdefgh":
        ids = (await tokenizer.tokenize(text(word), Spelling())).ids
        assert await tokenizer.detokenize("echo", ids) == word
        assert len(tokenizer._words) <= 3

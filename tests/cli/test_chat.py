import pytest

from gateway.cli.chat import Conversation, command
from gateway.cli.main import main
from gateway.core import exit_codes


def test_what_was_said_is_said_again_with_the_next_question() -> None:
    talk = Conversation(model="m", system="Be kind.", options={"max_tokens": 5})
    talk.keep("a", "b")
    assert talk.body("c") == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
    }


def test_commands_change_the_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    talk = Conversation(model="m")
    talk.keep("a", "b")
    assert command(talk, "/model other")
    assert command(talk, "/system Be brief.")
    assert command(talk, "/reset")
    assert (talk.model, talk.system, talk.turns) == ("other", "Be brief.", [])
    assert command(talk, "/what")
    assert "/quit" in capsys.readouterr().err
    assert not command(talk, "/quit")


def test_what_is_no_text_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--url", "http://127.0.0.1:1", "\udcff"]) == exit_codes.USAGE
    assert capsys.readouterr().err == "gateway: what is to be said is no UTF-8.\n"

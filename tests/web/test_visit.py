import pytest

from gateway.web.visit import Visit, new_id


@pytest.mark.parametrize("sane", ["a", "req_1.2-3", "x" * 64])
def test_a_sane_id_of_the_client_is_kept(sane: str) -> None:
    visit = Visit(sane, 0.0)
    assert visit.request_id == sane
    assert visit.id != sane


@pytest.mark.parametrize("odd", [None, "", "a b", 'a"b', "a\r\nb", "x" * 65, "é", "../a", "a\n"])
def test_any_other_is_replaced(odd: str | None) -> None:
    visit = Visit(odd, 0.0)
    assert visit.request_id == visit.id


def test_ids_are_unique() -> None:
    assert len({new_id() for _ in range(1000)}) == 1000


def test_every_answer_says_how_long_it_took_and_how_much_of_that_was_waiting() -> None:
    headers = Visit("abc", 10.0).headers(12.5, queue_s=2.0)
    assert headers["x-request-id"] == "abc"
    assert headers["openai-processing-ms"] == "2500"
    assert headers["x-gateway-queue-ms"] == "2000"
    assert headers["Server-Timing"] == "queue;dur=2000.0, total;dur=2500.0"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers


def test_every_answer_says_which_pages_may_read_it() -> None:
    visit = Visit(None, 0.0)
    visit.cors = (("Access-Control-Allow-Origin", "https://chat.example.com"), ("Vary", "Origin"))
    headers = visit.headers(0.0)
    assert headers["Access-Control-Allow-Origin"] == "https://chat.example.com"
    assert headers["Vary"] == "Origin"

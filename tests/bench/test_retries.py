"""The rule by which clients come back is openai-python's, case by case."""

import email.utils
import itertools
import random
import time
from collections.abc import Iterator

import httpx2
import openai
import pytest

from bench.retries import Retries, told_s

WALL_S = 1_800_000_000.0
HEADERS = [
    {},
    *({"retry-after-ms": value} for value in ("1", "1500", "120000", "120001", "0", "-5", "soon")),
    *({"retry-after": value} for value in ("2", "0.25", "120", "121", "0", "inf", "nan", "x")),
    {"retry-after-ms": "300", "retry-after": "7"},
    {"retry-after-ms": "soon", "retry-after": "7"},
    {"retry-after-ms": "130000", "x-should-retry": "true"},
    {"x-should-retry": "true"},
    {"x-should-retry": "false"},
    {"x-should-retry": "perhaps", "retry-after": "3"},
]


@pytest.fixture(scope="module")
def sdk() -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9") as client:
        yield client


@pytest.mark.parametrize("headers", HEADERS)
@pytest.mark.parametrize("status", [400, 404, 408, 409, 422, 429, 500, 503, 504])
def test_it_asks_again_when_the_sdk_does(
    sdk: openai.OpenAI, status: int, headers: dict[str, str]
) -> None:
    theirs = sdk._should_retry(httpx2.Response(status, headers=headers))
    assert Retries().again(status, headers, wall_s=WALL_S) == theirs


@pytest.mark.parametrize("headers", HEADERS)
@pytest.mark.parametrize("taken", [0, 1, 3, 9])
def test_it_waits_as_long_as_the_sdk_does(
    sdk: openai.OpenAI, taken: int, headers: dict[str, str]
) -> None:
    options = openai._models.FinalRequestOptions(method="post", url="/", max_retries=10)
    theirs = [
        sdk._calculate_retry_timeout(10 - taken, options, httpx2.Headers(headers))
        for _ in range(20)
    ]
    dice = random.Random(1)
    ours = [Retries().wait_s(headers, taken=taken, dice=dice, wall_s=WALL_S) for _ in range(20)]
    longest_s = min(0.5 * 2**taken, 8.0)
    for waits in (theirs, ours):
        if len(set(waits)) > 1:
            # No word from the server, so both roll their dice.
            assert 0.75 * longest_s <= min(waits)
            assert max(waits) <= longest_s
        else:
            assert waits == theirs


def test_a_date_is_understood() -> None:
    date = email.utils.formatdate(WALL_S + 30, usegmt=True)
    assert told_s({"retry-after": date}, wall_s=WALL_S) == pytest.approx(30.0)


def test_a_date_is_understood_as_the_sdk_does(sdk: openai.OpenAI) -> None:
    headers = {"retry-after": email.utils.formatdate(time.time() + 300, usegmt=True)}
    assert not sdk._should_retry(httpx2.Response(503, headers=headers))
    assert not Retries().again(503, headers, wall_s=time.time())


@pytest.mark.parametrize("number", ["1e999", "9" * 400])
def test_a_number_beyond_all_floats_is_later_than_anyone_comes_back(
    sdk: openai.OpenAI, number: str
) -> None:
    headers = {"retry-after": number}
    assert not sdk._should_retry(httpx2.Response(503, headers=headers))
    assert not Retries().again(503, headers, wall_s=WALL_S)


def test_a_scaled_world_has_scaled_waits() -> None:
    retries = Retries().scaled(10.0)
    assert retries.again(503, {"retry-after": "11"}, wall_s=WALL_S)
    assert not retries.again(503, {"retry-after": "13"}, wall_s=WALL_S)
    dice = random.Random(1)
    waits = [retries.wait_s({}, taken=taken, dice=dice) for taken in range(8)]
    for wait_s, longest_s in zip(
        waits, (0.05, 0.1, 0.2, 0.4, *itertools.repeat(0.8, 4)), strict=True
    ):
        assert 0.75 * longest_s <= wait_s <= longest_s

import pytest

from gateway.admission.throttle import (
    ADDRESSES_MAX,
    KNOWN_MAX,
    THIS_MACHINE,
    AuthThrottle,
    address_of,
)
from gateway.core.errors import AuthThrottled

NOW = 1000.0
OFFICE = "192.0.2.1"


def tripped(address: str = OFFICE, failures_max: int = 20) -> AuthThrottle:
    """From this address has come what may come in a minute."""
    throttle = AuthThrottle(failures_max)
    for _ in range(failures_max):
        throttle.failed(address, NOW)
    return throttle


def test_twenty_wrong_keys_are_just_wrong_and_the_next_has_to_wait() -> None:
    with pytest.raises(AuthThrottled) as caught:
        tripped().failed(OFFICE, NOW)
    error = caught.value
    assert (error.status, error.code) == (429, "auth_throttled")
    assert error.retry_after_s == pytest.approx(3.0)


def test_other_addresses_are_as_before() -> None:
    throttle = tripped()
    throttle.failed("192.0.2.2", NOW)
    throttle.passed("192.0.2.2", "alice", NOW)


def test_who_comes_back_as_told_may_try_once_more() -> None:
    throttle = tripped()
    throttle.failed(OFFICE, NOW + 3.0)
    with pytest.raises(AuthThrottled):
        throttle.failed(OFFICE, NOW + 3.0)


def test_who_guesses_does_not_learn_which_key_is_right() -> None:
    throttle = tripped()
    with pytest.raises(AuthThrottled) as right:
        throttle.passed(OFFICE, "alice", NOW)
    with pytest.raises(AuthThrottled) as wrong:
        throttle.failed(OFFICE, NOW)
    assert right.value.message == wrong.value.message
    throttle.passed(OFFICE, "alice", NOW + 3.0)


def test_one_client_with_an_old_key_does_not_lock_out_those_who_work_beside_it() -> None:
    throttle = AuthThrottle(20)
    throttle.passed(OFFICE, "alice", NOW)
    for _ in range(20):
        throttle.failed(OFFICE, NOW)
    throttle.passed(OFFICE, "alice", NOW)
    with pytest.raises(AuthThrottled):
        throttle.passed(OFFICE, "bob", NOW)


def test_through_a_proxy_on_this_machine_a_right_key_is_always_taken() -> None:
    throttle = tripped(THIS_MACHINE)
    throttle.passed(THIS_MACHINE, "alice", NOW)
    with pytest.raises(AuthThrottled):
        throttle.failed(THIS_MACHINE, NOW)


def test_another_bound_holds_from_the_next_key_on() -> None:
    throttle = tripped()
    throttle.failures_max = 40
    throttle.failed(OFFICE, NOW)


def test_addresses_are_forgotten_the_oldest_first() -> None:
    throttle = tripped()
    for number in range(ADDRESSES_MAX):
        throttle.failed(f"10.0.{number // 256}.{number % 256}", NOW)
    assert len(throttle._failures) == ADDRESSES_MAX
    throttle.failed(OFFICE, NOW)
    for number in range(KNOWN_MAX + 1):
        throttle.passed(f"10.0.{number // 256}.{number % 256}", "alice", NOW)
    assert len(throttle._known) == KNOWN_MAX


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", THIS_MACHINE),
        ("127.9.9.9", THIS_MACHINE),
        ("::1", THIS_MACHINE),
        ("::ffff:127.0.0.1", THIS_MACHINE),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        (None, THIS_MACHINE),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_a_client_is_its_address_and_with_ipv6_its_network(
    remote: str | None, address: str
) -> None:
    assert address_of(remote) == address

import os
import socket

import pytest

from gateway.web.peer import account, find

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000   997        0 11 1 0
   1: 0100007F:B5F4 0100007F:1F40 01 00000000:00000000 00:00000000 00000000    33        0 12 1 0
   2: 0100007F:1F40 0100007F:B5F4 01 00000000:00000000 00:00000000 00000000   997        0 13 1 0
   3: 0100007F:B5F5 0100007F:1F40 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0
   4: 0100007F:B5F6 0100007F:1F40 06 00000000:00000000 00:00000000 00000000     0        0 14 1 0
"""
HERE = "0100007F:1F40"


def test_a_connection_is_its_clients_and_not_the_daemons_own() -> None:
    assert find(TABLE, "0100007F:B5F4", HERE) == 33
    assert find(TABLE, HERE, "0100007F:B5F4") == 997


def test_what_nobody_holds_any_more_is_not_roots_though_the_kernel_says_so() -> None:
    assert find(TABLE, "0100007F:B5F5", HERE) is None
    assert find(TABLE, "0100007F:B5F6", HERE) is None


def test_a_connection_that_is_not_there_is_nobodys() -> None:
    assert find(TABLE, "0100007F:B5F7", HERE) is None
    assert find("", "0100007F:B5F4", HERE) is None


@pytest.mark.parametrize(
    ("listens", "host", "seen_as"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("::1", "::1", "::1"),
        ("::", "127.0.0.1", "::ffff:127.0.0.1"),
    ],
)
def test_the_kernel_is_understood(listens: str, host: str, seen_as: str) -> None:
    family = socket.AF_INET6 if ":" in listens else socket.AF_INET
    with socket.socket(family) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((listens, 0))
        listener.listen()
        with socket.create_connection((host, listener.getsockname()[1])) as client:
            connection, theirs = listener.accept()
            with connection:
                assert theirs[0] == seen_as
                ours = connection.getsockname()[:2]
                assert account(theirs[:2], ours) == os.getuid()
                client.close()
                assert account(theirs[:2], ours) is None


@pytest.mark.parametrize("host", ["", "localhost", "fe80::1%lo"])
def test_what_is_no_address_is_nobodys(host: str) -> None:
    assert account((host, 1), ("127.0.0.1", 1)) is None

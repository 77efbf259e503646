"""The strict reader is strict: what it lets through, the other tests rely on."""

import pytest

from tests.telemetry.exposition import read

HEAD = b"# HELP a_total A.\n# TYPE a_total counter\n"


def test_it_reads_labels_and_their_escapes() -> None:
    page = read(HEAD + b'a_total{x="1,}\\"\\\\\\n",y="2"} 3\n')
    assert page.value("a_total", x='1,}"\\\n', y="2") == 3


@pytest.mark.parametrize(
    "fault",
    [
        HEAD + b"a_total 1",
        HEAD + b"a_total 1\na_total 1\n",
        HEAD + HEAD + b"a_total 1\n",
        HEAD + b"b_total 1\n",
        HEAD + b"a_total -1\n",
        HEAD + b"a_total one\n",
        HEAD + b'a_total{x="a"b"} 1\n',
        HEAD + b'a_total{x="a\\b"} 1\n',
        HEAD + b'a_total{x="a\nb"} 1\n',
        HEAD + b'a_total{x="a",x="a"} 1\n',
        b"# TYPE a_total counter\na_total 1\n",
        b"# HELP a_total A\\b.\n# TYPE a_total counter\na_total 1\n",
        b"# HELP a A.\n# TYPE a counter\na 1\n",
        b'# HELP h H.\n# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_count 1\n',
        b'# HELP h H.\n# TYPE h histogram\nh_bucket{le="+Inf"} 1\nh_count 1\n',
        b'# HELP h H.\n# TYPE h histogram\nh_bucket{a="b",le="+Inf"} 1\nh_count 1\nh_sum 1\n',
        b'# HELP h H.\n# TYPE h histogram\nh_bucket{le="+Inf"} 1\nh_count 2\n',
    ],
)
def test_it_refuses(fault: bytes) -> None:
    with pytest.raises((AssertionError, ValueError)):
        read(fault)

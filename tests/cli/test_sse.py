from gateway.cli.sse import Record, records


def test_events_and_comments_come_in_order() -> None:
    lines = [
        b": queued 3, about 12 s\n",
        b"\n",
        b"data: one\n",
        b"data:two\r\n",
        b"\n",
        b"event: x\n",
        b"data: three\n",
        b"\n",
        b"data: cut off",
    ]
    assert list(records(lines)) == [
        Record(comment="queued 3, about 12 s"),
        Record(data="one\ntwo"),
        Record(data="three"),
    ]

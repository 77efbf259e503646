from gateway.cli.deep.finding import Finding, document, size_words, text, worst

GOOD = Finding("port", "ok", "127.0.0.1 port 8000 is free")
SO_SO = Finding("clock", "warn", "nobody keeps it right", "timedatectl set-ntp true")
BAD = Finding("model m", "fail", "on no engine", "ollama pull m")
UNKNOWN = Finding("memory", "skip", "not known here")


def test_the_worst_verdict_is_the_verdict_and_what_is_unknown_is_none() -> None:
    assert worst([GOOD, UNKNOWN]) == "ok"
    assert worst([SO_SO, GOOD]) == "warn"
    assert worst([SO_SO, BAD, GOOD]) == "fail"


def test_each_finding_is_a_line_with_its_fix_below_and_all_are_counted() -> None:
    assert text([GOOD, SO_SO, BAD, UNKNOWN]).splitlines() == [
        "ok    port     127.0.0.1 port 8000 is free.",
        "warn  clock    nobody keeps it right.",
        "               Fix: timedatectl set-ntp true",
        "fail  model m  on no engine.",
        "               Fix: ollama pull m",
        "skip  memory   not known here.",
        "",
        "1 failed, 1 could be better.",
    ]


def test_programs_get_the_same() -> None:
    assert document([BAD]) == {
        "verdict": "fail",
        "findings": [
            {
                "about": "model m",
                "verdict": "fail",
                "what": "on no engine",
                "fix": "ollama pull m",
            }
        ],
    }


def test_sizes_are_told_in_what_people_count_memory_in() -> None:
    assert size_words(150 * 1024**2) == "150 MiB"
    assert size_words(2.5 * 1024**3) == "2.5 GiB"

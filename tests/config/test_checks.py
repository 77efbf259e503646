import pytest

from tests.config.loading import Folder

KEY = "a-key-long-enough"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "gateway.example"])
def test_a_public_address_without_a_key_is_refused(folder: Folder, host: str) -> None:
    line = folder.mistake(f'server.host = "{host}"')
    assert line.startswith(f'server.host = "{host}": insecure_bind: ')
    assert "API_KEY" in line
    assert "allow_anonymous = true" in line


@pytest.mark.parametrize(
    "toml",
    [
        'host = "0.0.0.0"\nallow_anonymous = true',
        f'host = "0.0.0.0"\n[auth]\napi_key = "{KEY}"',
        f'host = "0.0.0.0"\n[auth.keys]\nalice = "{KEY}"',
        'host = "127.0.0.1"',
        'host = "localhost"',
        'host = "::1"',
    ],
)
def test_a_key_or_the_operators_word_or_loopback_is_enough(folder: Folder, toml: str) -> None:
    folder.load(f"[server]\n{toml}")


def test_a_wrong_key_is_told_once_and_not_as_an_insecure_address_too(folder: Folder) -> None:
    assert folder.mistakes('server.host = "0.0.0.0"\nauth.api_key = 5') == [
        "auth.api_key = (hidden): must be text, in quotes."
    ]
    assert folder.mistakes('server.host = "0.0.0.0"\nauth.keys.alice = 5') == [
        "auth.keys.alice = (hidden): must be text, in quotes."
    ]


@pytest.mark.parametrize("host", ["http://0.0.0.0", "0.0.0.0:80", "[::1]", "*", "a b"])
def test_a_host_with_something_around_it_is_refused(folder: Folder, host: str) -> None:
    assert "without scheme, brackets or port" in folder.mistake(f'server.host = "{host}"')


@pytest.mark.parametrize("key", ["", "short", "seven77", "k" * 1025])
def test_a_key_that_can_be_guessed_or_not_be_sent_is_refused(folder: Folder, key: str) -> None:
    (line,) = folder.mistakes(f'[auth.keys]\nalice = "{key}"')
    assert line.startswith("auth.keys.alice = (hidden): the key must ")


@pytest.mark.parametrize(
    "key", ["has a space", "line\\nbreak", "tab\\tkey1", "schlüssel", " lead-12"]
)
@pytest.mark.parametrize("place", ["auth.api_key", "backend.api_key", "upstreams.gpu.api_key"])
def test_a_key_that_fits_into_no_header_is_refused(folder: Folder, key: str, place: str) -> None:
    assert folder.mistake(f'{place} = "{key}"') == (
        f"{place} = (hidden): the key must be printable ASCII without spaces or line breaks,"
        " and not empty."
    )


def test_an_engines_key_may_be_short(folder: Folder) -> None:
    assert folder.load('backend.api_key = "EMPTY"').backend.api_key == "EMPTY"


def test_two_callers_never_share_a_key(folder: Folder) -> None:
    toml = f'[auth]\napi_key = "{KEY}"\nkeys = {{alice = "{KEY}", bob = "{KEY}"}}'
    assert folder.mistakes(toml) == [
        "auth.keys.alice = (hidden): the key must be another one than that of auth.api_key.",
        "auth.keys.bob = (hidden): the key must be another one than that of auth.api_key.",
    ]


@pytest.mark.parametrize("name", ["a b", "", "a" * 33, "é", "sk-0123456789abcdef", "a\\nb"])
def test_a_caller_has_a_name_that_fits_into_a_log(folder: Folder, name: str) -> None:
    assert "a name must have 1 to 32" in folder.mistake(f'auth.keys."{name}" = "{KEY}"')


@pytest.mark.parametrize("name", ["anonymous", "Anonymous"])
def test_no_caller_is_called_like_nobody(folder: Folder, name: str) -> None:
    assert "callers without a key" in folder.mistake(f'auth.keys.{name} = "{KEY}"')


def test_default_is_the_name_of_the_single_key(folder: Folder) -> None:
    toml = f'auth.keys.default = "{KEY}"\n'
    assert folder.load(toml).auth.keys == {"default": KEY}
    assert "the one of auth.api_key" in folder.mistake(f'{toml}auth.api_key = "{KEY}-2"')


def test_name_and_key_that_changed_places_do_not_show_the_key(folder: Folder) -> None:
    for secret in ("sk-0123456789abcdef", "0123456789abcdef0123456789abcdef0123456789"):
        assert secret[8:] not in folder.mistake(f'auth.keys."{secret}" = "alice"')


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (
            f'auth.keys.Alice = "{KEY}"\ncallers.alcie.weight = 2',
            "callers.alcie: no API key has this name; did you mean `Alice`?",
        ),
        (
            f'auth.api_key = "{KEY}"\ncallers.bob.weight = 2',
            "callers.bob: no API key has this name.",
        ),
        (
            f'auth.api_key = "{KEY}"\ncallers.anonymous.weight = 2',
            "callers.anonymous: nobody is anonymous once an API key is set.",
        ),
        (
            "callers.alice.weight = 2",
            "callers.alice: no API key is set; without one everybody is called anonymous.",
        ),
    ],
    ids=["slip", "nobody", "anonymous", "open"],
)
def test_settings_of_somebody_who_can_not_call_are_refused(
    folder: Folder, toml: str, said: str
) -> None:
    assert folder.mistake(toml) == said


@pytest.mark.parametrize(
    "toml",
    [
        "callers.anonymous.weight = 2",
        f'auth.api_key = "{KEY}"\ncallers.default.weight = 2',
        f'auth.keys.alice = "{KEY}"\ncallers.alice.weight = 2',
    ],
)
def test_settings_of_whoever_can_call_are_right(folder: Folder, toml: str) -> None:
    (settings,) = folder.load(toml).callers.values()
    assert settings.weight == 2.0


def test_while_the_keys_are_wrong_nobody_is_said_to_have_none(folder: Folder) -> None:
    assert folder.mistakes("auth.keys.alice = 5\ncallers.alice.weight = 2") == [
        "auth.keys.alice = (hidden): must be text, in quotes."
    ]


def test_a_key_in_place_of_a_callers_name_is_not_shown(folder: Folder) -> None:
    secret = "sk-0123456789abcdef0123456789abcdef"
    lines = folder.mistakes(f'auth.keys."{secret}" = "alice"\ncallers."{secret}x".weight = 2')
    assert secret[8:] not in "".join(lines)


@pytest.mark.parametrize("name", ["X User", "X-User:", "ä", "a" * 65, "X-User\\n"])
def test_a_header_that_nobody_can_send_is_refused(folder: Folder, name: str) -> None:
    user = folder.mistake(f'callers.anonymous.user_header = "{name}"')
    assert user.startswith("callers.anonymous.user_header = ")
    assert "must " in user
    session = folder.mistake(f'scheduling.session_headers = ["x-chat", "{name}"]')
    assert "must be the name of a header, such as x-session-id." in session


def test_an_empty_header_names_no_conversation(folder: Folder) -> None:
    assert '"" must be the name of a header' in folder.mistake('scheduling.session_headers = [""]')


def test_a_prompt_that_all_begin_with_is_refused(folder: Folder) -> None:
    assert "must hold no empty text" in folder.mistake('scheduling.background_prompts = ["a", ""]')
    assert folder.load("scheduling.background_prompts = []").scheduling.background_prompts == ()


@pytest.mark.parametrize("origin", ["*", "https://chat.example/", "chat.example", "https://A.b"])
def test_an_origin_that_would_never_match_is_refused(folder: Folder, origin: str) -> None:
    line = folder.mistake(f'server.allowed_origins = ["https://fine.example", "{origin}"]')
    assert line.startswith(f'server.allowed_origins: "{origin}" must be an origin')


@pytest.mark.parametrize("host", ["*", "*.example", "https://a.example", "a.example/"])
def test_a_host_header_that_would_never_match_is_refused(folder: Folder, host: str) -> None:
    line = folder.mistake(f'server.allowed_hosts = ["fine.example:8000", "{host}"]')
    assert line.startswith(f'server.allowed_hosts: "{host}" must be a host name')


def test_every_engines_url_is_checked(folder: Folder) -> None:
    toml = 'backend.url = "ftp://a"\nupstreams.gpu.url = "http://b/v1"'
    first, second = folder.mistakes(toml)
    assert first.startswith('backend.url = "ftp://a": must begin with http://')
    assert second.startswith('upstreams.gpu.url = "http://b/v1": must not end in /v1')


@pytest.mark.parametrize(
    "url", ["http://bob:hunter2@h", "hunter2@h", "http://h?token=hunter2", "http://h/#hunter2"]
)
def test_a_secret_in_a_url_is_not_shown(folder: Folder, url: str) -> None:
    assert "hunter2" not in folder.mistake(f'backend.url = "{url}"')


def test_an_upstream_has_a_name_of_its_own(folder: Folder) -> None:
    assert "[backend] is called so" in folder.mistake("[upstreams.default]")


@pytest.mark.parametrize("name", ["GPU", "a.b", "", "a" * 33, "a b", "gpu\\n"])
def test_an_upstream_has_a_name_that_fits_into_a_metric(folder: Folder, name: str) -> None:
    assert "an upstream's name must have 1 to 32" in folder.mistake(f'[upstreams."{name}"]')


def test_a_default_above_its_bound_is_told_at_the_key_that_was_written(folder: Folder) -> None:
    rule = (
        "generation.max_tokens_default (2048) must not be above generation.max_tokens_max (100);"
        " set both."
    )
    toml = "generation.max_tokens_max = 100"
    assert folder.mistake(toml) == f"generation.max_tokens_max = 100: {rule}"
    toml = "generation.max_tokens_default = 2048\ngeneration.max_tokens_max = 100"
    assert folder.mistake(toml) == f"generation.max_tokens_default = 2048: {rule}"


def test_one_body_fits_into_what_all_may_hold(folder: Folder) -> None:
    assert "must not be above" in folder.mistake("limits.body_bytes_max = 100_000_000")

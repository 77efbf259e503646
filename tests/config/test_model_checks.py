import pytest

from gateway.config import model_checks
from gateway.dialects import sampling
from tests.config.loading import Folder


@pytest.mark.parametrize("name", ["", "a b", "é", "a\\n", "a" * 257])
def test_a_name_is_one_that_a_caller_can_send(folder: Folder, name: str) -> None:
    assert "1 to 256 printable ASCII" in folder.mistake(f'models."{name}".num_ctx = 1024')
    if name:
        assert folder.mistake(f'models.a.target = "{name}"').startswith("models.a.target = ")


@pytest.mark.parametrize("name", ["default", "default:latest"])
def test_the_name_default_is_taken(folder: Folder, name: str) -> None:
    line = folder.mistake(f'models."{name}".num_ctx = 1024')
    assert "this name stands for generation.default_model" in line


def test_a_name_with_and_without_its_tag_is_one_name(folder: Folder) -> None:
    assert folder.mistake('models.m.num_ctx = 1024\nmodels."m:latest".max_tokens = 5') == (
        'models."m:latest": this is the same name as models.m; keep one of the two.'
    )


@pytest.mark.parametrize("target", ["b", "b:latest"])
def test_an_alias_of_an_alias_is_refused(folder: Folder, target: str) -> None:
    toml = f'models.a.target = "{target}"\nmodels.b.target = "m"'
    assert folder.mistake(toml) == (
        f'models.a.target = "{target}": must be the name of a model itself; "b" is an alias.'
    )


def test_a_circle_of_aliases_is_told_at_each_of_them(folder: Folder) -> None:
    first, second = folder.mistakes('models.a.target = "b"\nmodels.b.target = "a"')
    assert first.startswith("models.a.target = ")
    assert second.startswith("models.b.target = ")


@pytest.mark.parametrize("target", ["a", "a:latest"])
def test_an_alias_of_itself_is_refused(folder: Folder, target: str) -> None:
    assert folder.mistake(f'models.a.target = "{target}"') == (
        f'models.a.target = "{target}": must be another name than its own; leave it out.'
    )


def test_the_default_model_is_no_alias(folder: Folder) -> None:
    toml = 'generation.default_model = "a"\nmodels."a:latest".target = "default"'
    assert folder.mistake(toml) == (
        'generation.default_model = "a": must be the name of a model itself;'
        ' "a:latest" is an alias.'
    )


def test_an_alias_may_mean_a_model_with_settings_of_its_own_or_the_default_one(
    folder: Folder,
) -> None:
    config = folder.load(
        'models.a.target = "m"\nmodels.m.max_tokens = 5\nmodels.b.target = "default"'
    )
    assert config.models["a"].target == "m"


@pytest.mark.parametrize("second", ["models.b.target = 'm:latest'", "models.m.max_tokens = 5"])
def test_a_model_has_one_context_whatever_it_is_called(folder: Folder, second: str) -> None:
    toml = f"models.a = {{ target = 'm', num_ctx = 1024 }}\n{second}"
    folder.load(toml)
    other = second.split(".")[1]
    folder.load(f"{toml}\nmodels.{other}.num_ctx = 1024")
    assert folder.mistake(f"{toml}\nmodels.{other}.num_ctx = 2048") == (
        f"models.{other}.num_ctx = 2048: must be the same as models.a.num_ctx (1024): both names"
        " mean one model, which has one context."
    )


def test_the_default_models_context_is_one_too(folder: Folder) -> None:
    toml = (
        "generation.default_model = 'm'\n"
        "models.a = { target = 'default', num_ctx = 1024 }\nmodels.m.num_ctx = 2048"
    )
    assert folder.mistake(toml).startswith("models.m.num_ctx = 2048: must be the same")


@pytest.mark.parametrize("text", ["30m", "1h30m", "-1m", "0", "90s", "1.5h", "100ms"])
def test_a_duration_is_written_as_ollama_reads_it(folder: Folder, text: str) -> None:
    assert folder.load(f'models.m.keep_alive = "{text}"').models["m"].keep_alive == text


@pytest.mark.parametrize("text", ["5", "-1", "30 m", "m", "half an hour", "1d", "+1m", "30m\\n"])
def test_any_other_duration_is_refused(folder: Folder, text: str) -> None:
    assert "must be a duration such as 30m" in folder.mistake(f'models.m.keep_alive = "{text}"')


def test_a_cap_above_that_of_all_is_refused(folder: Folder) -> None:
    toml = "models.m.max_tokens = 9000"
    assert folder.mistake(toml) == (
        f"{toml}: must not be above generation.max_tokens_max (8192); set both."
    )
    folder.load(f"{toml}\ngeneration.max_tokens_max = 9000")


@pytest.mark.parametrize("stop", ['[""]', str(["a"] * 33).replace("'", '"'), f'["{"a" * 257}"]'])
def test_stops_are_those_that_a_caller_may_send(folder: Folder, stop: str) -> None:
    assert "must be up to 32 texts" in folder.mistake(f"models.m.options.stop = {stop}")


def test_the_bounds_on_stops_are_those_of_the_dialects() -> None:
    assert model_checks.STOPS_MAX == sampling.STOPS_MAX
    assert model_checks.STOP_CHARACTERS_MAX == sampling.STOP_CHARS_MAX

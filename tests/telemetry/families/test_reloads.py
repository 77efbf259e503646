from gateway.telemetry.families.registry import Families
from gateway.telemetry.families.reloads import ReloadFamilies
from gateway.telemetry.process import started_at
from gateway.telemetry.series import Budget


def lines(families: Families) -> list[str]:
    page = families.page().decode()
    return [line for line in page.splitlines() if not line.startswith("#")]


def test_the_start_is_a_success_and_each_reload_is_counted() -> None:
    families = Families(Budget(100))
    reloads = ReloadFamilies(families)
    start = round(started_at(), 2)
    assert "gateway_config_last_reload_successful 1" in lines(families)
    assert f"gateway_config_last_reload_success_timestamp_seconds {start}" in lines(families)
    reloads.reloaded(applied=True, wall_s=1_800_000_000.5)
    reloads.reloaded(applied=False, wall_s=1_800_000_009.0)
    now = lines(families)
    assert 'gateway_config_reloads_total{result="applied"} 1' in now
    assert 'gateway_config_reloads_total{result="refused"} 1' in now
    assert "gateway_config_last_reload_successful 0" in now
    assert "gateway_config_last_reload_success_timestamp_seconds 1800000000.5" in now

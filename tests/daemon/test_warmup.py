import asyncio

from gateway.config.schema import ModelSettings
from gateway.core.errors import UpstreamFailed, UpstreamUnreachable
from gateway.daemon.warmup import TOKENS, WarmUp
from gateway.pool.upstream import Upstream
from tests.engines import HELLO, ScriptedEngine, upstream
from tests.fakes import ManualClock
from tests.waist import Waist, waist


def warm_up_of(
    one: Upstream, clock: ManualClock, *, model: str = "m", wanted: bool = True
) -> WarmUp:
    return warm_up_in(waist([one], clock, bound=1), clock, model=model, wanted=wanted)


def warm_up_in(made: Waist, clock: ManualClock, *, model: str = "m", wanted: bool = True) -> WarmUp:
    return WarmUp(
        pool=made.pool,
        worker=made.worker,
        scheduler=made.scheduler,
        clock=clock,
        model=model,
        wanted=wanted,
    )


async def test_a_few_tokens_are_drawn_and_the_slot_is_free_again() -> None:
    engine = ScriptedEngine([HELLO])
    one = upstream(engine=engine)
    warm_up = warm_up_of(one, ManualClock())
    await warm_up.run()
    assert warm_up.done
    assert engine.requests[0].max_tokens == TOKENS
    assert one.in_flight == 0


async def test_the_model_is_asked_as_its_callers_will_ask_it() -> None:
    engine = ScriptedEngine([HELLO])
    made = waist(
        [upstream(engine=engine)],
        ManualClock(),
        models={"m": ModelSettings(system="Be brief.", keep_alive="-1m", max_tokens=4)},
    )
    warm_up = warm_up_in(made, ManualClock())
    await warm_up.run()
    [asked] = engine.requests
    assert asked.extensions == {"keep_alive": "-1m"}
    assert asked.messages[0].text == "Be brief."
    assert asked.max_tokens == 4


async def test_it_waits_for_an_engine_that_is_not_there_yet() -> None:
    clock = ManualClock()
    engine = ScriptedEngine([UpstreamUnreachable("x")], [HELLO])
    one = upstream(engine=engine, up=False)
    warm_up = warm_up_of(one, clock)
    running = asyncio.create_task(warm_up.run())
    await clock.advance(30.0)
    assert not warm_up.done
    one.found(await engine.probe())
    await clock.advance(1.0)
    assert not warm_up.done
    await clock.advance(1.0)
    await running
    assert warm_up.done


async def test_a_model_that_is_not_there_or_fails_does_not_keep_the_gateway_from_serving() -> None:
    missing = warm_up_of(upstream(), ManualClock(), model="missing")
    await missing.run()
    assert missing.done
    failing = warm_up_of(upstream(engine=ScriptedEngine([UpstreamFailed("x")])), ManualClock())
    await failing.run()
    assert failing.done


async def test_where_it_is_not_wanted_it_is_done_from_the_start() -> None:
    engine = ScriptedEngine()
    warm_up = warm_up_of(upstream(engine=engine), ManualClock(), wanted=False)
    await warm_up.run()
    assert warm_up.done
    assert engine.opened == 0

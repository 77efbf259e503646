from gateway.backends.loaded import Loaded
from gateway.core.messages import Finished, FinishReason


async def test_there_is_an_end_and_nothing_before_it() -> None:
    stream = Loaded()
    assert list(await stream.read()) == [Finished(FinishReason.STOP)]
    assert stream.ends == [Finished(FinishReason.STOP)]
    assert list(await stream.read()) == []
    assert len(stream.ends) == 1

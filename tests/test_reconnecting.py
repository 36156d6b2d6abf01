"""What an operator reads when an engine is away."""

from lastcall.broker.reconnecting import reason


def test_the_first_reason_is_told() -> None:
    inner = ExceptionGroup("", [ConnectionError("refused"), ValueError("later")])
    assert reason(ExceptionGroup("", [inner, OSError("other")])) == "refused"


def test_silence_has_words() -> None:
    assert reason(ExceptionGroup("", [TimeoutError()])) == "it does not answer in time"

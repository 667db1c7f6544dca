import pytest

from resnet_space.serve import rates
from resnet_space.serve.rates import RateLimit


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000.0]
    monkeypatch.setattr(rates.time, "monotonic", lambda: now[0])
    return now


def test_an_address_may_ask_so_many_times_a_minute_whatever_others_do(clock: list[float]) -> None:
    limit = RateLimit(6)
    assert [limit.seconds_to_wait("one") for _ in range(8)] == [0] * 6 + [10, 10]
    assert limit.seconds_to_wait("other") == 0
    clock[0] += 10
    assert [limit.seconds_to_wait("one") for _ in range(2)] == [0, 10]
    clock[0] += 3_600  # no more than a minute's worth is saved up
    assert [limit.seconds_to_wait("one") for _ in range(7)] == [0] * 6 + [10]


def test_without_a_limit_everything_is_allowed(clock: list[float]) -> None:
    limit = RateLimit(None)
    assert {limit.seconds_to_wait("one") for _ in range(1_000)} == {0}


def test_only_so_many_addresses_are_remembered(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "REMEMBERED", 3)
    limit = RateLimit(1)
    for i in range(10):
        limit.seconds_to_wait(str(i))
    assert list(limit._buckets) == ["7", "8", "9"]
    assert limit.seconds_to_wait("9") > 0

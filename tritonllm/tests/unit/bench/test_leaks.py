import pytest

import leaks
from processes import Usage

MIB = 1 << 20


def test_memory_that_grows_from_quarter_to_quarter_keeps_growing() -> None:
    assert leaks.keeps_growing([MIB * second for second in range(200)])


@pytest.mark.parametrize(
    "samples",
    [
        [MIB * min(second, 60) for second in range(240)],
        [MIB * (40 + second % 7) for second in range(240)],
        [40 * MIB + 1000 * second for second in range(240)],
        [MIB * (240 - second) for second in range(240)],
        [MIB * second for second in range(20)],
        [],
    ],
    ids=["a plateau", "up and down", "a little", "shrinking", "a short run", "nothing"],
)
def test_memory_that_levels_off_does_not(samples: list[int]) -> None:
    assert not leaks.keeps_growing(samples)


def test_a_server_that_holds_more_than_before_is_described() -> None:
    before = {"engine": Usage(processes=1, threads=8, descriptors=30), "core": Usage(processes=1)}
    after = {"engine": Usage(processes=2, threads=80, descriptors=90), "core": Usage(processes=1)}
    assert leaks.grown(before, after, inherited=0) == [
        "engine has 2 processes, and had 1",
        "engine has 80 threads, and had 8",
        "engine has 90 descriptors, and had 30",
    ]
    assert leaks.grown(before, after, inherited=100)[-1] == "engine has 80 threads, and had 8"
    assert leaks.grown(before, before, inherited=0) == []


def test_a_process_of_a_new_kind_is_described() -> None:
    assert leaks.grown({}, {"core": Usage(processes=1)}, inherited=0) == ["core has 1 processes, and had 0"]

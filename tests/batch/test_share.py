"""Which part of a batch falls to which process."""

import pytest

from mpvideo.batch.share import Share, parse_share


def test_shares_divide_everything_among_them() -> None:
    shares = [parse_share(f"{number}/3") for number in (1, 2, 3)]
    parts = [[index for index in range(10) if index in share] for share in shares]
    assert parts == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    assert str(shares[2]) == "3/3"


def test_processes_divide_a_share_further() -> None:
    share = Share(2, 3)
    parts = [[index for index in range(24) if index in share.part(rank, 2)] for rank in (0, 1)]
    assert sorted(parts[0] + parts[1]) == [index for index in range(24) if index in share]
    assert not set(parts[0]) & set(parts[1])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("3", "a number of how many, such as 3/16, got '3'"),
        ("a/b", "such as 3/16, got 'a/b'"),
        ("0/4", "the shard must be at least 1, got 0"),
        ("5/4", "the shard must be at most 4, got 5"),
        ("1/0", "the number of shards must be at least 1, got 0"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="shard") as caught:
        parse_share(text)
    assert words in str(caught.value)

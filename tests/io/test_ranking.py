from vaectl.io.ranking import Ranking


def test_the_largest_come_first_and_equals_as_they_came() -> None:
    ranking = Ranking()
    for number, line in ((1.0, b"a"), (3.0, b"b\xff"), (2.0, b"c"), (3.0, b"d"), (-1.0, b"e")):
        ranking.add(number, line)
    assert list(ranking.largest_first()) == [b"b\xff", b"d", b"c", b"a", b"e"]

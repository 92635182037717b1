from vaectl.io.ranking import Ranking


def test_lines_come_in_descending_order_and_ties_keep_their_order() -> None:
    ranking = Ranking()
    for score, line in ((1.0, b"a"), (3.0, b"b\xff"), (2.0, b"c"), (3.0, b"d"), (-1.0, b"e")):
        ranking.add(score, line)
    assert list(ranking.descending()) == [b"b\xff", b"d", b"c", b"a", b"e"]

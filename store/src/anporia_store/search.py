"""From a search to SQL over the index of words, which readers attach as `search`.

Its row numbers are made of the event's second and its place in the log, so that newest first is the
index's own order; the terms of a filter are checked in the log's row beside it.
"""

from __future__ import annotations

from . import query as q

__all__ = ["MAX_RANKED", "count_statement", "rank_statement", "row_number", "second_statement", "time_statement"]

MAX_RANKED = 10_000  # newest matches that are ranked: 20 ms; common words have hundreds of thousands

_SEQ_BITS = 30  # of a row number; above stand 33 bits of the second, until the year 2242
_LAST_SECOND = 2**33 - 1


def row_number(created_at: int, seq: int) -> int:
    """Give the row of an event in the index."""
    return min(created_at, _LAST_SECOND) << _SEQ_BITS | seq


def time_statement(query: q.Query) -> q.Statement:
    """Select rows as `list_statement` does, newest second first, in no order within a second."""
    sql = _select(query, f"{q.SMALL.format('k')}, k.created_at, k.idkey", "ORDER BY f.rowid DESC LIMIT :wanted")
    return q.Statement(sql, _args(query, *_seconds(query), query.limit + 1))


def second_statement(query: q.Query, second: int) -> q.Statement:
    """Select rows of one second, in the order of lists."""
    second = min(second, _LAST_SECOND)
    order = "ORDER BY k.created_at DESC, k.idkey DESC LIMIT :wanted"
    sql = _select(query, f"{q.SMALL.format('k')}, k.created_at, k.idkey", order)
    return q.Statement(sql, _args(query, second, second, query.limit + 1))


def rank_statement(query: q.Query, upto: int, offset: int) -> q.Statement:
    """Select (seq, raw, size) by bm25 among the newest `MAX_RANKED` matches with a place in the log up to `upto`."""
    newest = _select(query, "bm25(posts) AS rank", f"AND k.seq <= :upto ORDER BY f.rowid DESC LIMIT {MAX_RANKED}")
    sql = (
        f"SELECT m.seq, {q.SMALL.format('r')} FROM"
        f" (SELECT seq, rank FROM ({newest}) ORDER BY rank, seq DESC LIMIT :wanted OFFSET :offset) m"
        f" CROSS JOIN events r ON r.seq = m.seq ORDER BY m.rank, m.seq DESC"
    )
    args = _args(query, *_seconds(query), query.limit + 1)
    return q.Statement(sql, {**args, "upto": upto, "offset": offset})


def count_statement(query: q.Query, most: int) -> q.Statement:
    """Count the rows that match, stopping at `most`."""
    sql = f"SELECT count(*) FROM ({_select(query, '1', 'LIMIT :wanted')})"
    return q.Statement(sql, _args(query, *_seconds(query), most))


def _select(query: q.Query, columns: str, rest: str) -> str:
    terms = ["f.posts MATCH :match", "f.rowid BETWEEN :lower AND :upper", *q.conditions(query, "search", "k")]
    return (
        f"SELECT k.seq AS seq, {columns} FROM search.posts f CROSS JOIN events k"
        f" ON k.seq = (f.rowid & {2**_SEQ_BITS - 1}) WHERE {' AND '.join(terms)} {rest}"
    )


def _seconds(query: q.Query) -> tuple[int, int]:
    """Give the seconds, first and last, that the index has to look at."""
    first = min(max(query.filter.since or 0, 0), _LAST_SECOND)
    last = _LAST_SECOND if query.filter.until is None else max(query.filter.until, -1)
    if query.place is not None:
        last = min(last, query.place.created_at)
    return first, min(last, _LAST_SECOND)


def _args(query: q.Query, first: int, last: int, wanted: int) -> dict[str, object]:
    return {
        **q.shared_args(query),
        "match": query.match,
        "lower": first << _SEQ_BITS,
        "upper": (last << _SEQ_BITS) + 2**_SEQ_BITS - 1,
        "wanted": wanted,
    }

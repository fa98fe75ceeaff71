"""What tracking is on with, told to another store; and how an invalidation reads."""

from __future__ import annotations

from proxy.invalidations import Options, as_message, parse_options


def options(line: str) -> Options:
    return parse_options(line.encode().split())[0]


def test_options_are_told_to_another_store_as_what_they_came_to() -> None:
    on = (b"CLIENT", b"TRACKING", b"ON")
    assert options("").commands(None) == [on]
    assert options("noloop optin").commands(None) == [(*on, b"NOLOOP", b"OPTIN")]
    assert options("REDIRECT 7 NOLOOP").commands(b"99") == [(*on, b"NOLOOP", b"REDIRECT", b"99")]
    first = options("BCAST PREFIX a PREFIX b")
    second = options("BCAST NOLOOP PREFIX c PREFIX a").behind(first)
    prefixes = (b"PREFIX", b"a", b"PREFIX", b"b", b"PREFIX", b"c")
    assert second.commands(None) == [(*on, b"BCAST", b"NOLOOP", *prefixes)]
    third = options("BCAST").behind(first)
    assert third.commands(None) == [
        (*on, b"BCAST", b"PREFIX", b"a", b"PREFIX", b"b"),
        (*on, b"BCAST"),
    ]


def test_where_numbers_of_clients_stand() -> None:
    assert parse_options([b"bcast", b"redirect", b"5", b"prefix", b"redirect"])[1] == [2]
    assert parse_options([b"PREFIX", b"REDIRECT", b"REDIRECT", b"5"])[1] == [3]
    assert parse_options([b"REDIRECT", b"x"])[1] == []
    assert parse_options([b"BOGUS", b"REDIRECT", b"5"])[1] == []


def test_an_invalidation_as_a_message() -> None:
    head = b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"
    push = b">2\r\n$10\r\ninvalidate\r\n"
    assert as_message(push + b"*1\r\n$1\r\nk\r\n") == head + b"*1\r\n$1\r\nk\r\n"
    assert as_message(push + b"_\r\n") == head + b"$-1\r\n"

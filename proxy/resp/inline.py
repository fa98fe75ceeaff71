"""Splits an inline request ("telnet form") into its arguments, as sds.c's `sdssplitargs` does.

Never sees line ends or limits: the scanner hands over one line. One difference: a zero byte is
a byte like any other, where Redis waits for ever behind it.
"""

from __future__ import annotations

BLANKS = b" \t\n\v\f\r"
# Inside a word only these end it: a vertical tab or form feed belongs to the word.
WORD_ENDS = b" \t\n\r"
ESCAPES = {ord("n"): 10, ord("r"): 13, ord("t"): 9, ord("b"): 8, ord("a"): 7}
HEX = b"0123456789abcdefABCDEF"
QUOTE, APOSTROPHE, BACKSLASH, X = b"\"'\\x"


def split_inline(line: bytes) -> list[bytes] | None:
    """The arguments of `line`; None when its quotes are unbalanced."""
    args: list[bytes] = []
    at, size = 0, len(line)
    while True:
        while at < size and line[at] in BLANKS:
            at += 1
        if at == size:
            return args
        word = bytearray()
        while at < size and line[at] not in WORD_ENDS:
            byte = line[at]
            at += 1
            if byte != QUOTE and byte != APOSTROPHE:
                word.append(byte)
                continue
            at = _quoted(line, at, byte, word)
            if at < 0 or (at < size and line[at] not in BLANKS):
                return None
            break
        args.append(bytes(word))


def _quoted(line: bytes, at: int, quote: int, word: bytearray) -> int:
    """Appends what stands between quotes; the position behind the closing one, or -1."""
    size = len(line)
    while at < size:
        byte = line[at]
        at += 1
        if byte == quote:
            return at
        if byte != BACKSLASH or at == size:
            word.append(byte)
        elif quote == APOSTROPHE:
            # Between apostrophes only the apostrophe itself can be escaped.
            if line[at] == APOSTROPHE:
                byte = APOSTROPHE
                at += 1
            word.append(byte)
        elif line[at] == X and at + 2 < size and line[at + 1] in HEX and line[at + 2] in HEX:
            word.append(int(line[at + 1 : at + 3], 16))
            at += 3
        else:
            word.append(ESCAPES.get(line[at], line[at]))
            at += 1
    return -1

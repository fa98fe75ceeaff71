"""A chart of throughput: one panel per command, a group of bars per pipeline depth; as SVG.

Pure text. The colours have a form for light pages and one for dark ones, in the picture itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from .figures import cells
from .stage import MIRRORING, PROXY_ONLY

Json = dict[str, Any]

# Name in the figures -> class in the picture; in the order of the bars.
BARS = {
    MIRRORING: "own",
    PROXY_ONLY: "own2",
    "Envoy, mirroring": "envoy",
    "Envoy": "envoy2",
    "nutcracker": "nut",
    "HAProxy": "ha",
}
STYLE = """
    text { fill: #17212b; } .soft { fill: #5c6b7a; } .grid { stroke: #d5dce3; } .one { stroke: #5c6b7a; }
    .own { fill: #0d8478; } .own2 { fill: #6cc5b9; } .envoy { fill: #b3541e; }
    .envoy2 { fill: #e5a57f; } .nut { fill: #5a6fb0; } .ha { fill: #9aa4b0; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e4ebf1; } .soft { fill: #9aabba; } .grid { stroke: #2c3944; } .one { stroke: #9aabba; }
      .own { fill: #2dc4b2; } .own2 { fill: #1b7067; } .envoy { fill: #e98a52; }
      .envoy2 { fill: #8a5233; } .nut { fill: #8c9fe0; } .ha { fill: #6b7783; }
    }
"""  # noqa: E501
WIDTH, MARGIN = 940, 46
PANEL, TOP, GAP = 168, 74, 52
STEP = 0.25


def chart(result: Json) -> str | None:
    """The picture of the suite `core`; None where that was not measured."""
    found = cells(result, "core")
    commands = list(dict.fromkeys(cell.split(" -P ")[0] for cell in found))
    if not commands:
        return None
    names = [name for name in BARS if any(name in each for each in found.values())]
    highest = max(each[n]["ratio"] for each in found.values() for n in names if n in each)
    top = max(1.0, -(-highest // STEP) * STEP)
    height = TOP + len(commands) * (PANEL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-labelledby="title desc" font-family="system-ui, -apple-system, \'Segoe UI\', '
        'sans-serif" font-size="12.5">',
        '<title id="title">Throughput, as a share of a direct connection</title>',
        f'<desc id="desc">{escape(_said(found, names))}</desc>',
        f"<style>{STYLE}</style>",
        *_legend(names),
    ]
    for number, command in enumerate(commands):
        of = {cell: each for cell, each in found.items() if cell.split(" -P ")[0] == command}
        parts += _panel(command, of, names, TOP + number * (PANEL + GAP), top)
    return "\n".join([*parts, "</svg>", ""])


def _said(found: dict[str, Json], names: Sequence[str]) -> str:
    """The same in words, for who cannot see it."""
    return "; ".join(
        f"{cell}: " + ", ".join(f"{n} {each[n]['ratio']:.2f}" for n in names if n in each)
        for cell, each in found.items()
    )


def _legend(names: Sequence[str]) -> list[str]:
    parts = [
        f'<text x="{MARGIN}" y="22" font-size="15" font-weight="650">Throughput, as a share of a '
        "direct connection in the same round</text>"
    ]
    x = MARGIN
    for name in names:
        parts.append(f'<rect class="{BARS[name]}" x="{x}" y="38" width="12" height="12" rx="2"/>')
        parts.append(f'<text x="{x + 17}" y="48.5">{escape(name)}</text>')
        x += 34 + round(len(name) * 6.8)
    return parts


def _panel(
    command: str, of: dict[str, Json], names: Sequence[str], y: int, top: float
) -> list[str]:
    def height(value: float) -> float:
        return value / top * (PANEL - 26)

    base = y + PANEL
    parts = [
        f'<text x="{MARGIN}" y="{y + 14}" font-weight="650">{escape(command)}, 50 clients</text>'
    ]
    for step in range(round(top / STEP) + 1):
        at = base - height(step * STEP)
        kind = "one" if step * STEP == 1.0 else "grid"
        dash = ' stroke-dasharray="5 4"' if kind == "one" else ""
        parts.append(
            f'<line class="{kind}" x1="{MARGIN}" x2="{WIDTH - 14}" y1="{at:.1f}" '
            f'y2="{at:.1f}"{dash}/>'
        )
        parts.append(
            f'<text class="soft" x="{MARGIN - 8}" y="{at + 4:.1f}" text-anchor="end">'
            f"{step * STEP:.2f}</text>"
        )
    group = (WIDTH - 14 - MARGIN) / len(of)
    bar = min(40.0, group * 0.84 / len(names))
    for number, (cell, each) in enumerate(of.items()):
        left = MARGIN + number * group + (group - bar * len(names)) / 2
        for place, name in enumerate(names):
            if name not in each:
                continue
            ratio, x = each[name]["ratio"], left + place * bar
            h = height(ratio)
            parts.append(
                f'<rect class="{BARS[name]}" x="{x + 1.5:.1f}" y="{base - h:.1f}" '
                f'width="{bar - 3:.1f}" height="{h:.1f}" rx="2">'
                f"<title>{escape(cell)}, {escape(name)}: {ratio:.2f}</title></rect>"
            )
            parts.append(
                f'<text x="{x + bar / 2:.1f}" y="{base - h - 4:.1f}" text-anchor="middle" '
                f'font-size="11">{ratio:.2f}</text>'
            )
        parts.append(
            f'<text class="soft" x="{MARGIN + (number + 0.5) * group:.1f}" y="{base + 17}" '
            f'text-anchor="middle">{escape("-P " + cell.split(" -P ")[1])}</text>'
        )
    return parts

"""What all pages share: the frame and its style, number cards, tables of facts, line charts.

A page holds everything it shows, so that it can be mailed, and opened without a network.
"""

import html
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Points = Sequence[Sequence[float | int]]  # of x and y

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 8, 20  # margins of a chart, in its own units
COLORS = 6  # of lines, in the style
_NAME = 14  # what the name of an axis takes besides


def render(title: str, subtitle: str, sections: Sequence[str]) -> str:
  """A whole page.

  Args:
    title: plain text.
    subtitle: plain text.
    sections: HTML.
  """
  template = string.Template(pathlib.Path(__file__).with_name("page.html").read_text())
  return template.substitute(
    title=html.escape(title), subtitle=html.escape(subtitle), body="\n".join(sections)
  )


def section(title: str, note: str, content: str) -> str:
  """A part of a page below its heading; nothing without content."""
  if not content:
    return ""
  return f"<section><h2>{title}</h2><p>{note}</p>{content}</section>"


def numbers(values: Mapping[str, float | int]) -> str:
  """A card for each number, with its name."""
  cards = "".join(
    f'<div class="card number"><b>{value:.3f}</b><span>{html.escape(name)}</span></div>'
    for name, value in values.items()
  )
  return f'<div class="numbers">{cards}</div>'


def facts(rows: Mapping[str, Any]) -> str:
  """A table of names and what they are."""
  lines = "".join(
    f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>"
    for name, value in rows.items()
  )
  return f'<table class="facts">{lines}</table>'


def chart(
  lines: Mapping[str, Points],
  *,
  x_name: str = "",
  y_name: str = "",
  x_range: tuple[float | int, float | int] | None = None,
  y_range: tuple[float | int, float | int] | None = None,
  guides: Sequence[Points] = (),
  width: int = 320,
  height: int = 150,
) -> str:
  """Lines through (x, y) points as inline SVG, coloured by the page's style; hover for values.

  Args:
    lines: by name, in order of x, which may fall; points that are not finite are left out.
    x_name, y_name: what the axes are; none for what the heading says.
    x_range, y_range: ends of the axes; what the points span if None.
    guides: lines behind all others, without points.
    width, height: of the drawing, which takes the width that there is.
  """
  finite = {
    name: [(x, y) for x, y in points if np.isfinite(x) and np.isfinite(y)]
    for name, points in lines.items()
  }
  every = [point for points in finite.values() for point in points] or [(0.0, 0.0)]
  first, last = x_range or (min(x for x, _ in every), max(x for x, _ in every))
  last = last if last > first else first + 1
  low, high = y_range or _pad([y for _, y in every])
  bottom = height - _BOTTOM - (_NAME if x_name else 0)
  left = _LEFT + (_NAME if y_name else 0)
  x = lambda value: left + (value - first) / (last - first) * (width - left - _RIGHT)
  y = lambda value: _TOP + (high - value) / (high - low) * (bottom - _TOP)
  place = lambda points: " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
  parts = []
  for tick in ticks(low, high):
    parts.append(f'<path class="grid" d="M{left} {y(tick):.1f}H{width - _RIGHT}"/>')
    parts.append(f'<text x="{left - 6}" y="{y(tick) + 3:.1f}" text-anchor="end">{tick:g}</text>')
  for tick in ticks(first, last):
    anchor = "end" if x(tick) > width - 2 * _RIGHT else "middle"
    parts.append(
      f'<text x="{x(tick):.1f}" y="{bottom + 14}" text-anchor="{anchor}">{tick:,g}</text>'
    )
  parts += _names(x_name, y_name, left, bottom, width)
  parts += [f'<polyline class="guide" points="{place(points)}"/>' for points in guides]
  for number, (name, points) in enumerate(finite.items()):
    color = f"line{number % COLORS}"
    parts.append(f'<polyline class="curve {color}" points="{place(points)}"/>')
    radius = 2.4 if len(points) <= 60 else 1.2
    start = f"{html.escape(name)}: " if name else ""
    parts += [
      f'<circle class="{color}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="{radius}">'
      f"<title>{start}{x_name or 'step'} {a:,.6g}: {b:.4g}</title></circle>"
      for a, b in points
    ]
  return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'


def ticks(low: float | int, high: float | int) -> list[float]:
  """About four round numbers between `low` and `high`."""
  rough = (high - low) / 4
  unit = 10.0 ** np.floor(np.log10(rough))
  step = unit * min((1, 2, 5, 10), key=lambda factor: abs(factor * unit - rough))
  first = np.ceil(low / step)
  return [
    float(f"{(first + i) * step:.12g}") for i in range(int(np.floor(high / step) - first) + 1)
  ]


def _pad(values: Sequence[float | int]) -> tuple[float, float]:
  """Ends of an axis with a little room beyond the values."""
  low, high = min(values), max(values)
  pad = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
  return low - pad, high + pad


def _names(x_name: str, y_name: str, left: int, bottom: int, width: int) -> list[str]:
  parts = []
  if x_name:
    middle = (left + width - _RIGHT) / 2
    parts.append(
      f'<text x="{middle:.1f}" y="{bottom + 29}" text-anchor="middle">{html.escape(x_name)}</text>'
    )
  if y_name:
    middle = (_TOP + bottom) / 2
    parts.append(
      f'<text transform="translate(11 {middle:.1f}) rotate(-90)" text-anchor="middle">'
      f"{html.escape(y_name)}</text>"
    )
  return parts

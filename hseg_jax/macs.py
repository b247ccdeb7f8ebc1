"""Multiply-adds of a function, counted from its jaxpr."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def count(fn: Callable, *args: Any) -> int:
  """How many multiply-adds the convolutions and matrix products of one call take.

  Everything else (elementwise operations, reductions, gathers) counts nothing; the body of a scan
  counts once for each of its steps, of the branches of a conditional the dearest counts.

  Args:
    fn: a function that jax can trace.
    *args: its arguments; arrays or `jax.ShapeDtypeStruct`, nothing is computed.

  Raises:
    ValueError: a product lies in a `while` loop, whose number of rounds is not known.
  """
  return count_program(jax.make_jaxpr(fn)(*args).jaxpr)


def count_program(jaxpr: core.Jaxpr) -> int:
  """The same of a function that has been traced."""
  return sum(map(_count_equation, jaxpr.eqns))


def _count_equation(equation: core.JaxprEqn) -> int:
  name, params = equation.primitive.name, equation.params
  if name == "dot_general":
    (contracted, _), _ = params["dimension_numbers"]
    depth = math.prod(equation.invars[0].aval.shape[i] for i in contracted)
    return math.prod(equation.outvars[0].aval.shape) * depth
  if name == "conv_general_dilated":
    kernel = equation.invars[1].aval.shape
    out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
    return math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // out_features
  inner = [count_program(jaxpr) for jaxpr in _jaxprs(params.values())]
  if name == "cond":
    return max(inner)
  if name == "while" and any(inner):
    raise ValueError("A while loop holds a matrix product; its number of rounds is not known.")
  return sum(inner) * params.get("length", 1)


def _jaxprs(values: Any) -> Iterator[core.Jaxpr]:
  """The programs among an equation's parameters."""
  for value in values:
    if isinstance(value, core.ClosedJaxpr):
      yield value.jaxpr
    elif isinstance(value, core.Jaxpr):
      yield value
    elif isinstance(value, tuple | list):
      yield from _jaxprs(value)

"""The endless stream of examples that training cuts into batches: what stands at each position."""

import functools
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt32, UInt64


def order(num_examples: int, seed: int, positions: Iterable[int]) -> list[int]:
  """Which examples stand at these positions.

  Args:
    num_examples: of the source, shuffled anew in every pass.
    seed: as `pipeline.train_batches` takes it.
    positions: from 0 on, beyond the first pass as well.
  """
  passes = (divmod(position, num_examples) for position in positions)
  return [int(_shuffled(num_examples, seed, number)[place]) for number, place in passes]


# grain's own shuffle asks for a number until it is below that of the examples; for 300 photographs
# that took a tenth of the time of decoding them.
@functools.lru_cache(maxsize=2)  # a pass and the next
def _shuffled(num_examples: int, seed: int, number: int) -> UInt32[np.ndarray, " n"]:
  """The examples in the order of the `number`-th pass."""
  examples = np.arange(num_examples, dtype=np.uint32)
  return np.random.default_rng((seed, number)).permutation(examples)


def words(seed: int, starts: Iterable[int], count: int, each: int) -> UInt64[np.ndarray, "n each"]:
  """Random words of 64 bits for each of `count` positions from each start on, whatever batch these
  are in.

  Args:
    seed: as `pipeline.train_batches` takes it.
    starts: the first positions.
    count: of positions.
    each: how many words a position has.
  """
  # Philox counts: every position has as many blocks of four words.
  generator, blocks, position, found = np.random.Philox(seed), -(-each // 4), 0, []
  for start in starts:
    generator.advance(blocks * (start - position))
    found.append(generator.random_raw(4 * blocks * count))
    position = start + count
  return np.concatenate(found).reshape(-1, 4 * blocks)[:, :each]

"""Superpixels on the accelerator: whole images at once, inside a jitted step.

A grid of segments is moved to where the image has its borders, pixel by pixel, as in "Real-Time
Coarse-to-fine Topologically Preserving Segmentation", Yao, Boben, Fidler and Urtasun, CVPR 2015,
but for all pixels at once that cannot disturb each other. First blocks of four by four pixels
move, then of two by two, then pixels. A pixel joins the segment of one of its four neighbours when
that lowers

  squared distance to the segment's mean colour (CIELAB) and mean position, the latter in units of
  a grid cell's side / `COMPACTNESS`, + `BORDER` x its neighbours of other segments

and when its own segment stays connected without it. So every segment is connected (by edges), and
there are always as many as the grid has cells.

After the conversion to CIELAB everything is computed with integers, so neither the order of sums
nor the number of images or devices changes a label.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, UInt8

from hseg_jax.superpixels import grid

COMPACTNESS = 5.0  # colour distance that weighs as much as a cell's side
BORDER = 6.0  # in squared units of CIELAB
SWEEPS = {4: 10, 2: 10, 1: 6}  # side of the blocks that move -> how often each is asked

_COLOUR_STEPS = 4  # integers per unit of CIELAB
_COLOUR_BITS = 10
_POSITION_STEPS = 4  # integers of position per integer of colour, whose steps would be too coarse
_POSITION_BITS = 16
_POSITION_MAX = 32_000  # squares of two such distances add up to less than 2^31
_BORDER = round(BORDER * _COLOUR_STEPS**2)

_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))  # clockwise
_EDGES = (1, 3, 5, 7)  # those of the ring that share an edge with the pixel
# Rows and columns of each colour of the 2x2 colouring: no two of a colour touch. In the order in
# which they move, opposite corners after each other.
_COLOURING = ((0, 0), (1, 1), (0, 1), (1, 0))
_PLANES = ((0, 0), (0, 1), (1, 0), (1, 1))


def grid_shape(h: int, w: int, num_segments: int) -> tuple[int, int]:
  """Rows and columns of the grid that `segment` starts from: so many segments it makes.

  Raises:
    UserError: if the image is empty or `num_segments` is below one.
  """
  return grid.shape(h, w, num_segments)


def segment(
  image: UInt8[Array, "b h w 3"] | Float[Array, "b h w 3"], num_segments: int
) -> Int32[Array, "b h w"]:
  """Cuts images into connected superpixels; may be jitted, vmapped and sharded over the batch.

  Args:
    image: RGB in [0, 255], not normalised.
    num_segments: the most there may be; rows x columns of `grid_shape` tells how many there are.

  Returns:
    Ids 0 to rows x columns - 1, all of them in every image, in raster order of where they started.

  Raises:
    UserError: if the image is empty or `num_segments` is below one.
  """
  rows, columns = grid_shape(*image.shape[1:3], num_segments)
  one = lambda pixels: _segment_image(pixels, rows, columns)
  return jax.vmap(one)(jax.lax.stop_gradient(jnp.asarray(image, jnp.float32)))


def _segment_image(image: Float[Array, "h w 3"], rows: int, columns: int) -> Int32[Array, "h w"]:
  h, w, _ = image.shape
  lab = _to_lab(image)
  # A cell of fewer blocks than two by two could lose its shape at once.
  blocks = [b for b in SWEEPS if 2 * b <= min(h // rows, w // columns) or b == 1]
  side = (h * w / (rows * columns)) ** 0.5
  scale = COMPACTNESS * _COLOUR_STEPS * _POSITION_STEPS / side
  scale = min(scale, _POSITION_MAX / max(h, w))
  labels = None
  for block in blocks:
    colour = _average(lab, block)
    size = colour.shape[1:]
    if labels is None:
      start = np.arange(size[0])[:, None] * rows // size[0] * columns
      start = start + np.arange(size[1]) * columns // size[1]
      start = np.pad(start, [(0, side % 2) for side in size]).astype(np.int32)
      planes = [jnp.asarray(start[p::2, q::2]) for p, q in _PLANES]
    else:
      planes = [labels] * 4  # a block of the coarser map is one pixel of each
    labels = _move(colour, planes, rows * columns, block * scale, SWEEPS[block])
  return labels


def _to_lab(image: Float[Array, "h w 3"]) -> Float[Array, "3 h w"]:
  """sRGB in [0, 255] -> CIELAB of the D65 white point."""
  rgb = jnp.moveaxis(image, -1, 0) / 255.0
  power = lambda x, exponent: jnp.exp(exponent * jnp.log(x))  # several times as fast as x**y
  linear = jnp.where(
    rgb <= 0.04045, rgb / 12.92, power((jnp.maximum(rgb, 0.04) + 0.055) / 1.055, 2.4)
  )
  to_xyz = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
  )
  to_xyz /= to_xyz.sum(axis=1, keepdims=True)  # white becomes (1, 1, 1)
  xyz = (sum(float(m) * c for m, c in zip(row, linear, strict=True)) for row in to_xyz)
  x, y, z = (
    jnp.where(t > 0.008856, power(jnp.maximum(t, 0.008), 1 / 3), 7.787 * t + 16 / 116) for t in xyz
  )
  return jnp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _average(lab: Float[Array, "3 h w"], block: int) -> Int32[Array, "3 bh bw"]:
  """Mean colour of blocks, in steps from 0 on; those at the far edges repeat their last pixels."""
  _, h, w = lab.shape
  lab = jnp.pad(lab, ((0, 0), (0, -h % block), (0, -w % block)), mode="edge")
  lab = lab.reshape(3, -(-h // block), block, -(-w // block), block).mean(axis=(2, 4))
  highest = 2**_COLOUR_BITS - 1
  zero = np.array([0.0, 0.5, 0.5], np.float32)[:, None, None] * (highest + 1)
  return jnp.clip(jnp.round(lab * _COLOUR_STEPS + zero), 0, highest).astype(jnp.int32)


def _move(
  colour: Int32[Array, "3 h w"],
  planes: Sequence[Int32[Array, "ph pw"]],
  num_segments: int,
  scale: float,
  sweeps: int,
) -> Int32[Array, "h w"]:
  """Lets pixels (or blocks) change segments.

  All arrays are taken apart into the four colours of the 2x2 colouring, planes of every other row
  and column, so that a plane and its shifted neighbours are contiguous. A plane of the state
  has three layers, each pixel's label and its segment's mean colour and position, packed into an
  integer each: a pixel that moves takes along its new segment's, and nothing has to be looked up.
  Where a plane has no neighbour on one side it has a margin of label `num_segments`.

  Args:
    colour: of each pixel.
    planes: labels to start from.
    num_segments: how many segments there are.
    scale: integers of position per pixel.
    sweeps: how often all pixels are asked.
  """
  _, h, w = colour.shape
  half_h, half_w = planes[0].shape
  colour = jnp.pad(colour, ((0, 0), (0, 2 * half_h - h), (0, 2 * half_w - w)))
  places = [np.rint((np.arange(2 * n) + 0.5) * scale).astype(np.int32) for n in (half_h, half_w)]
  state, pixels = [], []
  for (p, q), labels in zip(_PLANES, planes, strict=True):
    inside = (np.arange(p, 2 * half_h, 2) < h)[:, None] & (np.arange(q, 2 * half_w, 2) < w)
    labels = jnp.where(inside, labels, num_segments)
    margin = (p, 1 - p), (q, 1 - q)
    state.append(jnp.pad(labels, margin, constant_values=num_segments))
    y, x = places[0][p::2, None], places[1][None, q::2]
    pixels.append((*(c[p::2, q::2] for c in colour), y, x))
  layers = [jnp.broadcast_arrays(*each, jnp.int32(1)) for each in pixels]
  summands = jnp.concatenate([jnp.stack(each, axis=-1).reshape(-1, 6) for each in layers])

  def sweep(_, carry):
    state, moves = carry
    means = _means(state, summands, num_segments)
    state = [jnp.concatenate([labels[None], *_look_up(means, labels)]) for labels in state]
    moves = list(moves)
    for p, q in _COLOURING:
      k = 2 * p + q
      moves[k] = _choose(state, pixels[k], p, q, num_segments)
      state[k] = _take(state, moves[k], p, q)
    return [each[0] for each in state], moves

  # The moves are in the loop's state for one reason: an array that leaves the loop is computed
  # once, instead of anew by each operation that it is fused into (thirty times slower on a CPU).
  moves = [jnp.zeros((half_h, half_w), jnp.int32)] * 4
  state, _ = jax.lax.fori_loop(0, sweeps, sweep, (state, moves))
  a, b, c, d = (each[p:, q:][:half_h, :half_w] for (p, q), each in zip(_PLANES, state, strict=True))
  joined = jnp.stack([jnp.stack([a, b], -1), jnp.stack([c, d], -1)], 1)
  return joined.reshape(2 * half_h, 2 * half_w)[:h, :w]


def _window(plane: Int32[Array, "*c _ _"], p: int, q: int, dy: int, dx: int) -> Array:
  """What lies `dy` rows and `dx` columns from the pixels of colour (p, q), in the plane it is in."""
  y, x = (p + dy + 1) // 2, (q + dx + 1) // 2
  return plane[..., y : y + plane.shape[-2] - 1, x : x + plane.shape[-1] - 1]


def _neighbour(state: Sequence[Array], p: int, q: int, dy: int, dx: int) -> Int32[Array, "3 ph pw"]:
  return _window(state[(p + dy) % 2 * 2 + (q + dx) % 2], p, q, dy, dx)


def _means(
  state: Sequence[Int32[Array, "_ _"]], summands: Int32[Array, "n 6"], num_segments: int
) -> Int32[Array, "s 2"]:
  """Mean colour and position of each segment, packed; a last row for the margin."""
  labels = [_window(each, p, q, 0, 0).ravel() for (p, q), each in zip(_PLANES, state, strict=True)]
  sums = jax.ops.segment_sum(summands, jnp.concatenate(labels), num_segments + 1)
  count = jnp.maximum(sums[:, 5:], 1)
  l, a, b, y, x = ((sums[:, :5] + count // 2) // count).T
  return jnp.stack([_pack((l, a, b), _COLOUR_BITS), _pack((y, x), _POSITION_BITS)], axis=1)


def _pack(values: Sequence[Array], bits: int) -> Array:
  return sum(each << (bits * k) for k, each in enumerate(values))


def _unpack(packed: Array, count: int, bits: int) -> list[Array]:
  return [packed >> (bits * k) & (2**bits - 1) for k in range(count)]


def _look_up(means: Int32[Array, "s 2"], labels: Int32[Array, "h w"]) -> list[Array]:
  return [means[:, k][labels][None] for k in range(2)]


def _choose(
  state: Sequence[Int32[Array, "3 _ _"]],
  pixels: Sequence[Array],
  p: int,
  q: int,
  num_segments: int,
) -> Int32[Array, "ph pw"]:
  """Whom each pixel of a plane joins: 0 = stays, 1 to 4 = the neighbour above, right, below, left."""
  ring = [_neighbour(state, p, q, *shift)[0] for shift in _RING]
  around = [_neighbour(state, p, q, *shift) for shift in ((0, 0), *(_RING[k] for k in _EDGES))]
  labels = [each[0] for each in around]

  def energy(choice: int) -> Array:
    colour = _unpack(around[choice][1], 3, _COLOUR_BITS)
    position = _unpack(around[choice][2], 2, _POSITION_BITS)
    l, a, b, y, x = (u - v for u, v in zip(pixels, (*colour, *position), strict=True))
    same = sum((each == labels[choice]).astype(jnp.int32) for each in labels[1:])
    distance = l * l + a * a + b * b + (y * y + x * x) // _POSITION_STEPS**2
    return distance - _BORDER * same

  own = labels[0]
  may_leave = is_simple([each == own for each in ring]) & (own < num_segments)
  best = jnp.where(may_leave, energy(0), jnp.iinfo(jnp.int32).min)
  move = jnp.zeros_like(own)
  for choice in range(1, 5):
    offer = energy(choice)
    better = (offer < best) & (labels[choice] < num_segments)
    best = jnp.where(better, offer, best)
    move = jnp.where(better, choice, move)
  return move


def is_simple(ring: Sequence[Array]) -> Array:
  """Whether a segment stays connected, as far as the 3x3 pixels around tell, if it loses the middle.

  Its pixels that share an edge with the middle must be connected to each other within the ring, by
  edges, and there must be some: the number of runs around the ring that contain such pixels is one.
  Yokoi, Toriwaki and Fukumura, "An Analysis of Topological Properties of Digitized Binary Pictures
  Using Local Features", 1975.

  Args:
    ring: whether the eight pixels around belong to the segment, bools of any shape, clockwise from
      the upper left.
  """
  runs = [ring[k] & ~(ring[(k + 1) % 8] & ring[(k + 2) % 8]) for k in _EDGES]
  return sum(each.astype(jnp.int32) for each in runs) == 1


def _take(
  state: Sequence[Int32[Array, "3 _ _"]], move: Int32[Array, "ph pw"], p: int, q: int
) -> Int32[Array, "3 _ _"]:
  """A plane after its pixels' moves."""
  layers = _neighbour(state, p, q, 0, 0)
  for choice, k in enumerate(_EDGES, start=1):
    layers = jnp.where((move == choice)[None], _neighbour(state, p, q, *_RING[k]), layers)
  return state[2 * p + q].at[:, p : p + move.shape[0], q : q + move.shape[1]].set(layers)

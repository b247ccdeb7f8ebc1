"""Superpixels on the accelerator: whole images at once, inside a jitted step.

A grid of segments is moved to where the image has its borders, pixel by pixel, as in "Real-Time
Coarse-to-fine Topologically Preserving Segmentation", Yao, Boben, Fidler and Urtasun, CVPR 2015,
but for all pixels at once that cannot disturb each other. First blocks of four by four pixels
move, then of two by two, then pixels. A pixel joins the segment of one of its four neighbours when
that lowers

  squared distance to the segment's mean colour (CIELAB) and mean position, the latter in units of
  a grid cell's side / `COMPACTNESS`, + `BORDER` x its neighbours of other segments

and when its own segment is not tiny and stays connected without it. So every segment is connected
(by edges), and there are always as many as the grid has cells.

After the conversion to CIELAB everything is computed with integers, so neither the order of sums
nor the number of images or devices changes a label.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, UInt8

from hseg_jax.errors import UserError
from hseg_jax.superpixels import grid

COMPACTNESS = 5.0  # colour distance that weighs as much as a cell's side
BORDER = 6.0  # in squared units of CIELAB
FEWEST = 3  # a segment of so few blocks, or fewer, loses none before its next sweep
SWEEPS = {4: 10, 2: 10, 1: 4}  # side of the blocks that move -> how often each is asked

COLOUR_STEPS = 4  # integers per unit of CIELAB; a* and b* have their zero in the middle
COLOUR_BITS = 10
_POSITION_SHIFT = 2  # positions have further bits, as steps like those of colours were too coarse
_POSITION_BITS = 16
_POSITION_MAX = 32_000  # squares of two such distances add up to less than 2^31
_CELL_MAX = 200_000  # pixels: colours of a segment ten times as large add up to less than 2^31
_BORDER = round(BORDER * COLOUR_STEPS**2)

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
  image: UInt8[Array | np.ndarray, "b h w 3"] | Float[Array | np.ndarray, "b h w 3"],
  num_segments: int,
) -> Int32[Array, "b h w"]:
  """Cuts images into connected superpixels; may be jitted, vmapped and sharded over the batch.

  Args:
    image: RGB in [0, 255], not normalised.
    num_segments: the most there may be; rows x columns of `grid_shape` tells how many there are.

  Returns:
    Ids 0 to rows x columns - 1, all of them in every image, in raster order of where they started.

  Raises:
    UserError: if the image is empty, `num_segments` is below one, or the grid's cells are so large
      that sums over segments could leave the range of integers.
  """
  h, w = image.shape[1:3]
  rows, columns = grid_shape(h, w, num_segments)
  if h * w > _CELL_MAX * rows * columns:
    raise UserError(
      f"{num_segments} superpixels are too few for an image of {h}x{w} pixels; raise "
      "superpixels.num_segments or resize the image."
    )
  return _segment_images(jax.lax.stop_gradient(jnp.asarray(image, jnp.float32)), rows, columns)


@functools.partial(jax.jit, static_argnums=(1, 2))  # traced once for all views
def _segment_images(
  image: Float[Array, "b h w 3"], rows: int, columns: int
) -> Int32[Array, "b h w"]:
  one = lambda colour: _segment_image(colour, rows, columns)
  # One image after the other stays in a CPU's cache.
  over = functools.partial(jax.lax.map, one) if jax.default_backend() == "cpu" else jax.vmap(one)
  return over(to_lab(image))


def _segment_image(colour: Int32[Array, "h w"], rows: int, columns: int) -> Int32[Array, "h w"]:
  h, w = colour.shape
  side = (h * w / (rows * columns)) ** 0.5
  scale = COMPACTNESS * (COLOUR_STEPS << _POSITION_SHIFT) / side  # integers of position a pixel
  scale = min(scale, _POSITION_MAX / max(h, w))
  # A cell of fewer blocks than two by two would have no shape to keep.
  blocks = [b for b in SWEEPS if b == 1 or 2 * b <= min(h // rows, w // columns)]
  start = _start(-(-h // blocks[0]), -(-w // blocks[0]), rows, columns)
  for block in blocks:
    labels = _move(_average(colour, block), start, rows * columns, block * scale, SWEEPS[block])
    start = labels[None]  # a block of this map is one pixel of each plane of the next
  return labels


def _start(h: int, w: int, rows: int, columns: int) -> Int32[Array, "4 ph pw"]:
  """The planes of the grid; of what an odd size leaves over they hold anything."""
  row = np.arange(h + h % 2) * rows // h
  column = np.arange(w + w % 2) * columns // w
  return _split(jnp.asarray(row[:, None] * columns + column, jnp.int32))


def to_lab(image: Float[Array, "b h w 3"]) -> Int32[Array, "b h w"]:
  """sRGB in [0, 255] -> CIELAB of the D65 white point, in steps, packed into an integer."""
  power = lambda x, exponent: jnp.exp(exponent * jnp.log(x))  # several times as fast as x**y
  rgb = (image[..., channel] / 255.0 for channel in range(3))
  linear = [
    jnp.where(c <= 0.04045, c / 12.92, power((jnp.maximum(c, 0.04) + 0.055) / 1.055, 2.4))
    for c in rgb
  ]
  to_xyz = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
  )
  to_xyz /= to_xyz.sum(axis=1, keepdims=True)  # white becomes (1, 1, 1)
  xyz = (sum(float(m) * c for m, c in zip(row, linear, strict=True)) for row in to_xyz)
  x, y, z = (
    jnp.where(t > 0.008856, power(jnp.maximum(t, 0.008), 1 / 3), 7.787 * t + 16 / 116) for t in xyz
  )
  highest = 2**COLOUR_BITS - 1
  zero = (highest + 1) // 2
  lab = COLOUR_STEPS * (116 * y - 16), COLOUR_STEPS * 500 * (x - y), COLOUR_STEPS * 200 * (y - z)
  steps = (jnp.round(c + o) for c, o in zip(lab, (0, zero, zero), strict=True))
  return _pack([jnp.clip(each, 0, highest).astype(jnp.int32) for each in steps], COLOUR_BITS)


def _average(colour: Int32[Array, "h w"], block: int) -> Int32[Array, "3 bh bw"]:
  """Mean colour of blocks; those at the far edges repeat their last pixels."""
  h, w = colour.shape
  colour = jnp.pad(colour, ((0, -h % block), (0, -w % block)), mode="edge")
  colour = jnp.stack(unpack(colour, 3, COLOUR_BITS))
  if block == 1:
    return colour
  sums = colour.reshape(3, -(-h // block), block, -(-w // block), block).sum(axis=(2, 4))
  return (sums + block**2 // 2) // block**2


def _split(x: Array) -> Array:
  """`[..., 2h, 2w]` -> `[4, ..., h, w]`: the planes of every other row and column, `_PLANES`."""
  *c, h, w = x.shape
  x = x.reshape(*c, h // 2, 2, w // 2, 2)
  return jnp.moveaxis(x, (-3, -1), (0, 1)).reshape(4, *c, h // 2, w // 2)


def _join(planes: Int32[Array, "4 ph pw"]) -> Int32[Array, "h w"]:
  _, h, w = planes.shape
  return jnp.moveaxis(planes.reshape(2, 2, h, w), (0, 1), (1, 3)).reshape(2 * h, 2 * w)


def _move(
  colour: Int32[Array, "3 h w"],
  start: Int32[Array, "_ ph pw"],
  num_segments: int,
  scale: float,
  sweeps: int,
) -> Int32[Array, "h w"]:
  """Lets pixels (or blocks) change segments.

  All arrays are taken apart into the four colours of the 2x2 colouring, planes of every other row
  and column, so that a plane and its shifted neighbours are contiguous. The state of a plane has
  three layers, each pixel's label and its segment's mean colour and position, packed into an
  integer each: a pixel that moves takes along its new segment's, and nothing has to be looked up.
  Where a plane has no neighbour on one side it has a margin of label `num_segments`.

  Args:
    colour: of each pixel.
    start: labels to start from, of each plane or of all.
    num_segments: how many segments there are.
    scale: integers of position per pixel.
    sweeps: how often all pixels are asked.
  """
  _, h, w = colour.shape
  ph, pw = start.shape[1:]
  colour = jnp.pad(colour, ((0, 0), (0, 2 * ph - h), (0, 2 * pw - w)))
  y, x = (np.rint((np.arange(2 * n) + 0.5) * scale).astype(np.int32) for n in (ph, pw))
  place = np.stack(np.broadcast_arrays(y[:, None], x))
  pixels = _split(jnp.concatenate([colour, place]))
  count = jnp.ones((4, 1, ph, pw), jnp.int32)
  summands = jnp.moveaxis(jnp.concatenate([pixels, count], axis=1), 1, -1).reshape(-1, 6)
  outside = jnp.asarray((np.arange(2 * ph) >= h)[:, None] | (np.arange(2 * pw) >= w))
  start = jnp.where(_split(outside), num_segments, start)
  labels = jnp.stack(
    [
      jnp.pad(plane, ((p, 1 - p), (q, 1 - q)), constant_values=num_segments)
      for (p, q), plane in zip(_PLANES, start, strict=True)
    ]
  )
  cores = lambda labels: jnp.stack(
    [_window(plane, p, q, 0, 0) for (p, q), plane in zip(_PLANES, labels, strict=True)]
  )

  def sweep(count, labels):
    zero = jnp.minimum(count, 0)
    means = _compute_once(_means(cores(labels), summands, num_segments), zero)
    looked_up = means.at[:, labels].get(mode="promise_in_bounds")
    state = list(jnp.moveaxis(jnp.concatenate([labels[None], looked_up]), 1, 0))
    for p, q in _COLOURING:
      k = 2 * p + q
      move = _compute_once(_choose(state, pixels[k], p, q, num_segments), zero)
      state[k] = _take(state, move, p, q)
    return jnp.stack([plane[0] for plane in state])

  return _join(cores(jax.lax.fori_loop(0, sweeps, sweep, labels)))[:h, :w]


def _window(plane: Int32[Array, "*c _ _"], p: int, q: int, dy: int, dx: int) -> Array:
  """What lies `dy` rows and `dx` columns from the pixels of colour (p, q), in its own plane."""
  *c, h, w = plane.shape
  y, x = (p + dy + 1) // 2, (q + dx + 1) // 2
  return jax.lax.slice(plane, (*[0] * len(c), y, x), (*c, y + h - 1, x + w - 1))


def _neighbour(state: Sequence[Array], p: int, q: int, dy: int, dx: int) -> Int32[Array, "3 ph pw"]:
  return _window(state[(p + dy) % 2 * 2 + (q + dx) % 2], p, q, dy, dx)


def _means(
  labels: Int32[Array, "4 ph pw"], summands: Int32[Array, "n 6"], num_segments: int
) -> Int32[Array, "2 s"]:
  """Packed mean colour, with whether it is tiny, and position of each segment; margin last."""
  sums = jax.ops.segment_sum(summands, labels.ravel(), num_segments + 1)
  count = jnp.maximum(sums[:, 5:], 1)
  means = list(jax.lax.div(sums[:, :5] + (count >> 1), jnp.broadcast_to(count, (len(sums), 5))).T)
  is_tiny = (sums[:, 5] <= FEWEST).astype(jnp.int32)
  colour = _pack([*means[:3], is_tiny], COLOUR_BITS)
  return jnp.stack([colour, _pack(means[3:], _POSITION_BITS)])


def _pack(values: Sequence[Array], bits: int) -> Array:
  return sum(each << (bits * k) for k, each in enumerate(values))


def unpack(packed: Array, count: int, bits: int) -> list[Array]:
  """The first of the integers of so many bits each that another is made of."""
  return [packed >> (bits * k) & (2**bits - 1) for k in range(count)]


def _choose(
  state: Sequence[Int32[Array, "3 _ _"]],
  pixels: Int32[Array, "5 ph pw"],
  p: int,
  q: int,
  num_segments: int,
) -> Int32[Array, "ph pw"]:
  """Whom each pixel of a plane joins: 0 = nobody, 1 to 4 = above, right, below, left."""
  ring = [_neighbour(state, p, q, *shift)[0] for shift in _RING]
  around = [_neighbour(state, p, q, *shift) for shift in ((0, 0), *(_RING[k] for k in _EDGES))]
  labels = [each[0] for each in around]

  def energy(choice: int) -> Array:
    colour = unpack(around[choice][1], 3, COLOUR_BITS)
    position = unpack(around[choice][2], 2, _POSITION_BITS)
    lightness, a, b, y, x = (u - v for u, v in zip(pixels, (*colour, *position), strict=True))
    same = sum(jax.lax.eq(each, labels[choice]).astype(jnp.int32) for each in labels[1:])
    distance = lightness * lightness + a * a + b * b + ((y * y + x * x) >> 2 * _POSITION_SHIFT)
    return distance - _BORDER * same

  full = lambda value: jax.lax.full_like(labels[0], value)
  may_leave = is_simple([jax.lax.eq(each, labels[0]) for each in ring]) & (labels[0] < num_segments)
  may_leave &= around[0][1] >> 3 * COLOUR_BITS == 0  # unless the segment is tiny
  best = jax.lax.select(may_leave, energy(0), full(jnp.iinfo(jnp.int32).min))
  move = full(0)
  for choice in range(1, 5):
    offer = energy(choice)
    better = (offer < best) & (labels[choice] < num_segments)
    best = jax.lax.select(better, offer, best)
    move = jax.lax.select(better, full(choice), move)
  return move


def _compute_once(x: Int32[Array, "h w"], zero: Int32[Array, ""]) -> Int32[Array, "h w"]:
  """Returns `x`, detained in a buffer whose place the compiler cannot know.

  Otherwise XLA computes it anew in each operation that uses it, all that it depends on included,
  which on a CPU takes ten times as long; `optimization_barrier` is no barrier there.
  """
  buffer = jax.lax.dynamic_update_slice(
    jnp.zeros((x.shape[0] + 1, x.shape[1]), x.dtype), x, (zero, 0)
  )
  return jax.lax.dynamic_slice(buffer, (zero, 0), x.shape)


def is_simple(ring: Sequence[Array]) -> Array:
  """Whether a segment that loses the middle of 3x3 pixels stays connected, as far as these tell.

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
    taken = jax.lax.broadcast(move == choice, (3,))
    layers = jax.lax.select(taken, _neighbour(state, p, q, *_RING[k]), layers)
  return jax.lax.dynamic_update_slice(state[2 * p + q], layers, (0, p, q))

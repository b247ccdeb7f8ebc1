"""Assignment along graphs of segments: what hangs together, what trains, what does not matter."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

import hseg_jax
from hseg_jax.hierarchy import Hierarchy
from hseg_jax.models import path_assignment as paths
from hseg_jax.models import region_graph as graphs
from hseg_jax.models.sampling import farthest_point_sampling

FORMS = [*itertools.product(graphs.PATHS, paths.SEEDS), ("minimax", "regions", "cosine")]


def random_maps(seed, batch=4, side=24, count=30):
  """Label maps whose segments each hang together: cells around random points, grown in turns."""
  rng = np.random.default_rng(seed)
  maps = []
  for _ in range(batch):
    labels = np.full((side, side), -1)
    labels.ravel()[rng.permutation(side * side)[:count]] = np.arange(count)
    while (labels < 0).any():
      for axis, step in rng.permutation([(0, 1), (0, -1), (1, 1), (1, -1)]):
        grown = np.roll(labels, step, axis)
        np.moveaxis(grown, axis, 0)[0 if step > 0 else -1] = -1
        labels = np.where((labels < 0) & (rng.random(labels.shape) < 0.5), grown, labels)
    maps.append(labels)
  return np.stack(maps).astype(np.int32)


def inputs(seed=0, levels=None, lost=0.1):
  """Unit features (of few distinct values, if `levels`), masks, label maps and images."""
  rng = np.random.default_rng(seed)
  labels = random_maps(seed)
  features = rng.normal(size=(4, 32, 3))
  if levels:
    features = np.round(features * levels) + [0, 0, 0.5]
  features = features / np.linalg.norm(features, axis=-1, keepdims=True)
  mask = (rng.random((4, 32)) >= lost) & (np.arange(32) < 30)
  image = rng.normal(size=(4, 24, 24, 3)).astype(np.float32)
  return features.astype(np.float32), mask, labels, image if not levels else np.zeros_like(image)


@functools.cache
def compiled(distance, seeds, cosine="", num_clusters=7):
  module = paths.PathAssignment(num_clusters, distance, seeds, True, True, bool(cosine))

  def apply(params, features, mask, labels, image):
    graph = paths.make_graph(labels, image, mask, contrast=True)
    sampled, logits, lengths = module.apply({"params": params}, features, features, mask, graph)
    own = jnp.where(mask, logits.argmax(-1), -1)
    pooled = paths.pool_graph(graph, own, num_clusters)
    return sampled, logits, lengths, own, pooled.borders

  return jax.jit(apply)


def assign(form, *inputs):
  """As `compiled`, without parameters; numpy arrays."""
  return jax.device_get(compiled(*form)({}, *inputs))


@pytest.mark.parametrize("levels", [None, 1])
@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_every_cluster_is_one_piece(form, levels):
  features, mask, labels, image = inputs(levels=levels)
  sampled, logits, lengths, own, pooled = assign(form, features, mask, labels, image)
  assert np.isfinite(logits).all()
  for i in range(4):
    assert set(own[i][mask[i]]) == set(range(7))
    # Lost segments go with neighbours, as hierarchies do it, and every cluster holds its seed.
    level = Hierarchy.from_assignments(labels[i], [own[i]]).labels(1)
    assert all(ndimage.label(level == region)[1] == 1 for region in range(7))
    np.testing.assert_array_equal(own[i][sampled[i]], np.arange(7))
    touch = graphs.border_lengths(jnp.asarray(level)[None], 7)[0] > 0
    np.testing.assert_array_equal(pooled[i] > 0, touch)
  assert (np.isfinite(lengths) == np.isfinite(np.swapaxes(lengths, 1, 2))).all()


@pytest.mark.parametrize("distance", graphs.PATHS)
def test_tokens_go_to_the_nearest_seed(distance):
  features, mask, labels, image = inputs(1)
  sampled, logits, lengths, own, _ = assign((distance, "graph"), features, mask, labels, image)
  nodes = np.broadcast_to(np.eye(32, dtype=bool), (4, 32, 32))
  pairs = np.asarray(jax.jit(graphs.path_lengths, static_argnums=2)(lengths, nodes, distance))
  for i in range(4):
    to_seeds = pairs[i][mask[i]][:, sampled[i]]
    np.testing.assert_allclose(to_seeds.min(1), to_seeds[np.arange(mask[i].sum()), own[i][mask[i]]])
    others = np.arange(7) != own[i][mask[i]][:, None]
    np.testing.assert_allclose(logits[i][mask[i]][others], -5 * to_seeds[others], rtol=1e-5)


def test_cosines_count_beside_distances():
  features, mask, labels, image = inputs(1)
  sampled, alone, _, own, _ = assign(("minimax", "regions"), features, mask, labels, image)
  _, both, _, also_own, _ = assign(("minimax", "regions", "cosine"), features, mask, labels, image)
  np.testing.assert_array_equal(own, also_own)
  for i in range(4):
    others = np.arange(7) != own[i][mask[i]][:, None]
    expected = (alone[i] + 5 * features[i] @ features[i][sampled[i]].T)[mask[i]]
    np.testing.assert_allclose(both[i][mask[i]][others], expected[others], rtol=1e-4, atol=1e-5)
    lifted = both[i][mask[i]].max(1) - np.where(others, both[i][mask[i]], -np.inf).max(1)
    assert (lifted > 0.99 * paths._MARGIN).all()


def test_seeds_of_regions_are_as_unlike_as_sampled_points():
  # Medoids would be as close to each other as regions allow; those cost recognition.
  features, mask, labels, image = inputs(1)
  sampled, _, _, own, _ = assign(("minimax", "regions"), features, mask, labels, image)
  expected = farthest_point_sampling(*map(jnp.asarray, (features, mask)), 7, jnp.asarray(own))
  np.testing.assert_array_equal(sampled, expected)


def test_specks_are_merged_sooner_where_regions_are_balanced():
  features, mask, labels, image = map(jnp.asarray, inputs(3))
  graph = paths.make_graph(labels, image, mask, contrast=True)
  together = lambda groups: np.asarray(groups)[:, :, None] == np.asarray(groups)[:, None]
  found = {}
  for seeds, sizes in (("regions", None), ("balanced", graph.sizes)):
    _, _, lengths, own, _ = assign(("minimax", seeds), features, mask, labels, image)
    groups = graphs.average_linkage(jnp.asarray(lengths), graph.borders, mask, 7, sizes)
    found[seeds] = together(own)
    np.testing.assert_array_equal(found[seeds], together(groups))
  assert not np.array_equal(found["regions"], found["balanced"])
  assert hseg_jax.create_model("cast_tiny", assignment="path").path_seeds == "balanced"


@pytest.mark.parametrize(
  "form",
  [("minimax", "regions", "cosine"), ("minimax", "graph"), ("shortest", "features")],
  ids=" ".join,
)
def test_gradients_reach_features_and_parameters(form):
  features, mask, labels, image = inputs(2)
  factors = np.random.default_rng(0).normal(size=(4, 32, 7)).astype(np.float32)

  def loss(params, features):
    logits = compiled(*form)(params, features, mask, labels, image)[1]
    return (jax.nn.softmax(logits) * factors * mask[..., None]).sum()

  params = dict.fromkeys(("scale", "color", "contrast"), jnp.float32(0))
  of_params, of_features = jax.grad(loss, argnums=(0, 1))(params, features)
  assert np.isfinite(of_features).all() and not np.asarray(of_features)[~mask].any()
  assert (np.abs(of_features).sum(-1) > 0)[mask].mean() > 0.5
  assert all(np.isfinite(value) and value != 0 for value in of_params.values())


def test_parameters_that_are_not_there_have_the_value_they_start_from():
  features, mask, labels, image = inputs(3)
  start = dict.fromkeys(("scale", "color", "contrast"), jnp.float32(0))
  run = lambda params: compiled("minimax", "regions")(params, features, mask, labels, image)[1]
  np.testing.assert_array_equal(run({}), run(start))
  for name in start:
    assert np.abs(run({**start, name: jnp.float32(1)}) - run(start)).max() > 1e-2


@pytest.mark.parametrize("seeds", paths.SEEDS)
def test_few_or_no_tokens_leave_surplus_clusters(seeds):
  features, mask, labels, image = inputs(4)
  mask = np.stack([np.arange(32) < count for count in (0, 1, 5, 7)])
  sampled, logits, _, own, _ = assign(("minimax", seeds), features, mask, labels, image)
  assert np.isfinite(logits).all()
  for i, count in enumerate((0, 1, 5, 7)):
    assert sorted(sampled[i][:count]) == list(range(count)) and (sampled[i][count:] == -1).all()
    assert set(own[i][:count]) == set(range(count))


def test_parts_that_nothing_joins_are_bridged():
  # Two halves with a strip of no segment between them; colours tell where the bridge goes.
  labels = jnp.array([[[0, 0, -1, 2, 2], [1, 1, -1, 3, 3]]])
  image = jnp.array([[[0.0, 0, 9, 8, 8], [5, 5, 9, 4, 4]]])[..., None]
  graph = paths.make_graph(labels, image, jnp.ones((1, 4), bool))
  expected = [[0, 2, 0, 0], [2, 0, 0, 1], [0, 0, 0, 2], [0, 1, 2, 0]]
  np.testing.assert_array_equal(graph.borders[0], expected)


def test_borders_may_come_from_a_finer_map():
  labels = jnp.array([[[0, 1, 1, 2]]])
  image, mask = jnp.zeros((1, 1, 4, 3)), jnp.ones((1, 3), bool)
  finer = jnp.asarray([[[0, 1, 9], [1, 0, 9], [9, 9, 0]]], jnp.float32)
  graph = paths.make_graph(labels, image, mask, finer)
  np.testing.assert_array_equal(graph.borders, finer)
  np.testing.assert_array_equal(graph.sizes, [[1, 2, 1]])


def test_contrast_is_that_of_the_border_and_not_of_the_segments():
  # The first two shade into each other; the third keeps a distance.
  labels = jnp.array([[[0, 0, 1, 1, 2]]])
  image = jnp.array([[[0.0, 3, 4, 7, 12]]])[..., None]
  graph = paths.make_graph(labels, image, jnp.ones((1, 3), bool), contrast=True)
  np.testing.assert_allclose(graph.contrasts[0], [[0, 1, 0], [1, 0, 5], [0, 5, 0]])
  pooled = paths.pool_graph(graph, jnp.array([[0, 1, 0]]), 2)
  np.testing.assert_allclose(pooled.contrasts[0], [[0, 6], [6, 0]])
  np.testing.assert_allclose(pooled.borders[0], [[0, 2], [2, 0]])


def test_where_no_border_is_seen_mean_colours_tell_the_contrast():
  labels = jnp.array([[[0, -1, 1, 2]]])
  image = jnp.array([[[0.0, 9, 3, 5]]])[..., None]
  finer = jnp.asarray([[[0, 0, 0], [0, 0, 4], [0, 4, 0]]], jnp.float32)
  graph = paths.make_graph(labels, image, jnp.ones((1, 3), bool), finer, contrast=True)
  np.testing.assert_allclose(graph.borders[0], [[0, 1, 0], [1, 0, 4], [0, 4, 0]])
  np.testing.assert_allclose(graph.contrasts[0], [[0, 3, 0], [3, 0, 8], [0, 8, 0]])


def test_segments_without_a_token_leave_their_contrasts_to_a_neighbour():
  # The second touches the first twice and the third once; it goes with the first.
  labels = jnp.array([[[0, 1, 2], [0, 1, 1]]])
  image = jnp.array([[[0.0, 1, 5], [0, 2, 3]]])[..., None]
  graph = paths.make_graph(labels, image, jnp.array([[True, False, True]]), contrast=True)
  np.testing.assert_allclose(graph.borders[0], [[0, 0, 2], [0, 0, 0], [2, 0, 0]])
  np.testing.assert_allclose(graph.contrasts[0], [[0, 0, 6], [0, 0, 0], [6, 0, 0]])


def test_segments_without_a_pixel_have_no_colour_that_counts():
  # The second is a strip between the others that this resolution does not show.
  finer = jnp.asarray([[[0, 4, 0], [4, 0, 4], [0, 4, 0]]], jnp.float32)
  labels, image = jnp.array([[[0, 2]]]), jnp.full((1, 1, 2, 3), 7.0)
  graph = paths.make_graph(labels, image, jnp.array([[True, False, True]]), finer, contrast=True)
  np.testing.assert_array_equal(graph.borders[0] > 0, np.eye(3)[[2, 1, 0]] * [[1], [0], [1]])
  assert np.asarray(graph.contrasts).max() < 1e-4


def test_lengths_of_edges():
  # Two borders, two pixels long each; features and colours at will.
  labels = jnp.array([[[0, 1, 2], [0, 1, 2]]])
  image = jnp.array([[[0.0, 2, 9], [4, 2, 5]]])[..., None]
  features = jnp.asarray([[[1, 0], [0.6, 0.8], [0, 1]]], jnp.float32)
  mask = jnp.ones((1, 3), bool)
  unlike = np.array([0.4, 0.2])  # 1 - cosine
  means = np.array([0, 5])  # |2 - 2|, |2 - 7|
  steps = np.array([2, 5])  # (2 + 2) / 2, (7 + 3) / 2
  graph = paths.make_graph(labels, image, mask, contrast=True)
  for color, contrast in itertools.product((False, True), repeat=2):
    module = paths.PathAssignment(2, "minimax", "regions", color, contrast, False)
    (_, _, lengths), variables = module.init_with_output(
      jax.random.key(0), features, features, mask, graph
    )
    expected = unlike + 0.3 * color * means + 0.3 * contrast * steps
    np.testing.assert_allclose(lengths[0, [0, 1], [1, 2]], expected, atol=1e-5)
    assert ("color" in variables["params"], "contrast" in variables["params"]) == (color, contrast)


FIELDS = dict(
  num_classes=5,
  dim=16,
  depths=(1, 1),
  num_heads=2,
  pool_num_heads=2,
  num_segments=32,
  num_clusters=(9, 4),
  stem_strides=(2, 2),
  position_grid=(6, 6),
)


def test_a_model_trained_without_paths_takes_them():
  model = hseg_jax.create_model("cast_tiny", **FIELDS)
  labels = random_maps(5)
  image = np.random.default_rng(5).normal(size=(4, 24, 24, 3)).astype(np.float32)
  variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), image, labels)
  along = hseg_jax.create_model("cast_tiny", **FIELDS, assignment="path")

  def total(params):
    out = along.apply({**variables, "params": params}, image, labels)
    return (out.logits**2).sum(), out

  gradients, out = jax.jit(jax.grad(total, has_aux=True))(variables["params"])
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
  assert np.any(gradients["pool_0"]["nodes"]["attention"]["qkv"]["kernel"])
  for i in range(4):
    hierarchy = Hierarchy.from_assignments(
      labels[i], [np.asarray(level.clusters[i]) for level in out.levels]
    )
    assert hierarchy.sizes == (30, 9, 4)
    for level in (1, 2):
      found = hierarchy.labels(level)
      pieces = [ndimage.label(found == region)[1] for region in range(hierarchy.sizes[level])]
      assert pieces == [1] * len(pieces)
  trained = jax.eval_shape(lambda: along.init(jax.random.key(0), image, labels, train=False))
  assert set(trained["params"]["pool_0"]["path"]) == {"scale", "color"}

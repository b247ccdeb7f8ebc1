"""Every field a config has, with its meaning. One file beside this one is one experiment.

`hseg train --config configs/x.py --workdir W --config.field=value` overrides any of them;
`--config configs/x.py:smoke` shrinks the experiment to two steps.
"""

import importlib
import importlib.util

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def base() -> ConfigDict:
  """A config with every field. None among the model's fields means what the variant has."""
  c = ConfigDict()
  c.seed = 0  # of weights, order, augmentation and drawn data
  c.batch_size = 64  # of all devices together
  c.num_steps = 0  # length of the run; 0: num_epochs counts
  c.num_epochs = 0.0  # length in passes over the data, of whole batches; 0: num_steps counts
  c.log_every_steps = 50
  c.eval_every_steps = 1000  # the untrained and the final network are evaluated besides

  c.model, c.data = _model(), _data()

  c.superpixels = ConfigDict()
  c.superpixels.method = "seeds"  # "seeds", "grid", "device" (in the step) or "none" (plain ViTs)
  c.superpixels.num_segments = 64
  c.superpixels.bins = 5  # of SEEDS' colour histograms
  c.superpixels.iterations = 15  # of SEEDS

  c.objective = ConfigDict()
  c.objective.name = "supervised"  # or "contrastive", with data.augment "moco"
  c.objective.label_smoothing = 0.1  # supervised
  c.objective.temperature = 0.2  # contrastive
  c.objective.momentum = 0.99  # contrastive: of the target at the start; it grows to 1
  c.objective.projection_dim = 256  # contrastive
  c.objective.hidden_dim = 4096  # contrastive: width of the projection MLPs

  c.optimizer = _optimizer()

  c.checkpoint = ConfigDict()
  c.checkpoint.every_steps = 1000
  c.checkpoint.keep = 2

  c.evaluators = ConfigDict()  # name of a file in hseg_jax/evaluators -> its options

  c.resume = ""  # another run's folder, to go on from its newest checkpoint
  c.init_from = ""  # a folder of exported weights to start from
  c.init_from_skip = ()  # top-level parts of the model that start anew, such as ("head",)
  c.allow_config_change = False  # go on in a workdir whose config differs
  c.lock()  # a misspelt field is an error
  c.evaluators.unlock()
  return c


def _model() -> ConfigDict:
  c = ConfigDict()
  c.name = "cast_tiny"  # a key of hseg_jax.models.VARIANTS
  c.dtype = "float32"  # of the computation, or "bfloat16"; parameters are float32
  c.remat = False  # recompute each block in the backward pass to save memory
  c.dim = placeholder(int)  # width of the tokens
  c.depths = placeholder(tuple)  # transformer blocks of each stage
  c.num_heads = placeholder(int)
  c.pool_num_heads = placeholder(int)  # of the attention inside the poolings
  c.mlp_ratio = placeholder(float)
  c.num_segments = placeholder(int)  # room for superpixel ids
  c.num_clusters = placeholder(tuple)  # what each stage pools to
  c.stem_strides = placeholder(tuple)
  c.position = placeholder(str)  # "sincos" or "learned"
  c.position_grid = placeholder(tuple)  # rows and columns of the position table
  # Tokens are means of the stem's cells: "nearest" (as published, those that show the segment when
  # its map is shrunk), "area" (all, by its pixels in them) or "bilinear" (interpolated). If not
  # given, "area" with superpixels of the device and "nearest" with others; in evaluation those of
  # the weights.
  c.segment_mean = placeholder(str)
  c.drop_path = placeholder(float)  # rate at the last block
  c.pool_dropout = placeholder(float)
  c.fusion_dropout = placeholder(float)  # _seg variants
  c.output = placeholder(str)  # _seg variants: "image" or "segments"
  c.init = placeholder(str)  # "moco" or "deit"
  c.empty_segments = placeholder(str)  # "mask", or "attend" as the reference
  c.train_last_pool = placeholder(bool)  # whether losses reach the last pooling
  c.assignment = placeholder(str)  # "cosine" (as published) or "path": along borders
  c.path_distance = placeholder(str)  # "minimax" or "shortest"
  c.path_seeds = placeholder(str)  # "balanced", "regions", "graph" or "features" (as published)
  c.path_color = placeholder(bool)  # whether mean colours count in a path's length
  c.path_contrast = placeholder(bool)  # whether the contrast across borders does
  c.path_cosine = placeholder(bool)  # whether the published cosines count beside distances
  return c


def _data() -> ConfigDict:
  c = ConfigDict()
  # Or "folder" (root/split/class/image), "tfds", and without classes "masks" (root/images and
  # root/masks) and "part_imagenet" (root/images and root/annotations).
  c.source = "partworld"
  c.name = ""  # of the TFDS data set
  c.root = ""  # the image tree, or TFDS's data_dir ("": its default)
  c.train_split = "train"  # "tfds" and "masks" take slices, such as "all[:200]"
  c.val_split = "val"
  c.num_train = placeholder(int)  # how many examples to train on; None: all
  c.num_val = placeholder(int)  # how many examples to evaluate on; None: all
  c.image_size = 64  # side in pixels; the stem's stride divides it
  c.augment = "supervised"  # "none", "supervised" or "moco" (two views)
  c.augment_on = "host"  # or "device": hosts decode and draw crops; not with superpixels by "seeds"
  # Side of the squares in which images reach the device that augments them, in pixels. Of larger
  # images only what encloses the crops is laid, shrunk if need be; JPEGs of "folder" and "tfds"
  # come from their decoder as small as halves and crops allow. 512 for 224 holds most of ImageNet.
  c.canvas_size = c.get_ref("image_size") * 16 // 7
  c.min_scale = 0.08  # smallest share of an image that a random crop covers
  # Processes that prepare batches; 0: a thread of the main one. Threads of it where the device
  # augments, when batches are large and nearly all of the work is done outside Python.
  c.num_workers = 1
  # Unreadable images that are replaced before the run gives up; one that goes on counts anew.
  c.max_bad_images = 10
  return c


def _optimizer() -> ConfigDict:
  c = ConfigDict()
  c.name = "adamw"  # or "muon", "sgd", "lars"
  c.learning_rate = 1e-3  # at the end of the warm-up
  c.final_fraction = 0.0  # of learning_rate that is left at the end of the cosine
  c.warmup_steps = 0
  c.weight_decay = 0.05
  c.decay = "no_1d"  # which parameters decay: "all", or "no_1d" as DeiT
  c.clip_norm = 0.0  # largest norm of the gradient; 0: no clipping
  c.b1 = 0.9  # AdamW's first moment, momentum of SGD and LARS
  c.b2 = 0.999  # AdamW's second moment
  c.ema = 0.0  # decay of the parameters' average that is evaluated; 0: none
  return c


def as_vit(config: ConfigDict, name: str) -> None:
  """Puts a plain ViT in the place of a CAST, which leaves superpixels and pooling without use."""
  config.model.name = name
  config.model.train_last_pool = config.model.pool_dropout = None
  config.model.assignment = config.model.path_distance = None
  config.model.path_seeds = config.model.path_color = None
  config.model.path_contrast = config.model.path_cosine = None
  config.superpixels.method = "none"


def evaluation_of(experiment: str) -> ConfigDict:
  """The config of an experiment, without its evaluators, for a file that lists others.

  Args:
    experiment: name of a file beside this one.

  Raises:
    ValueError: no experiment is named, or there is none of that name.
  """
  if not experiment:
    raise ValueError("name the experiment behind a colon, such as FILE.py:cast_tiny_folder")
  if ":" in experiment or importlib.util.find_spec(f"configs.{experiment}") is None:
    raise ValueError(f"there is no experiment {experiment!r}; cast_tiny_folder is one, say")
  config = importlib.import_module(f"configs.{experiment}").get_config()
  config.evaluators = ConfigDict()
  config.evaluators.unlock()
  return config


def use_masks(config: ConfigDict) -> None:
  """Puts images with masks in the place of an experiment's data."""
  config.data.source, config.data.name, config.data.root = "masks", "", ""
  config.data.train_split, config.data.val_split = "train", "val"
  config.data.num_train = config.data.num_val = None


def imagenet_moco(
  config: ConfigDict, *, num_images: int, num_epochs: int, warmup_epochs: int
) -> None:
  """The paper's contrastive pretraining, all but the data and the model.

  Source: the reference's moco-v3/main_moco_suppix.py and scripts/moco.
  """
  config.batch_size = 256
  batch_size = config.get_ref("batch_size")
  config.num_epochs = float(num_epochs)
  config.eval_every_steps = 25_000
  config.checkpoint.every_steps = 2500
  config.model.dtype = "bfloat16"
  config.data.image_size = 224
  config.data.augment = "moco"
  config.data.num_workers = 16
  config.superpixels.num_segments = 196
  config.superpixels.bins = 15
  config.superpixels.iterations = 20
  config.objective.name = "contrastive"
  config.optimizer.learning_rate = batch_size.to_float() * 1.5e-4 / 256
  config.optimizer.weight_decay = 0.1
  config.optimizer.decay = "all"
  config.optimizer.warmup_steps = warmup_epochs * (num_images // batch_size)
  config.evaluators.knn = knn(bank_size=100_000)


def knn(*, bank_size: int) -> dict:
  """Options of the k-NN evaluator in the usual protocol.

  Args:
    bank_size: how many training images are compared with.
  """
  return {
    "num_neighbors": 20,
    "temperature": 0.07,
    "bank_size": bank_size,
    "inputs": ("features", "pixels", "histograms"),
  }


def linear_probe() -> dict:
  """Options of the linear probe: the reference's but for a sweep of rates and cached images."""
  return {
    "inputs": ("features",),  # and "pixels", "histograms", for comparison
    # Of a batch of 256 images; tried all at once, and chosen among on held-out training images.
    "learning_rates": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
    "num_epochs": 90,
    "head_batch_size": 256,
    "num_images": placeholder(int),  # how many training images to take; None: all
    "held_out": 0.1,  # share of them by which the rate is chosen
    "num_views": 0,  # random crops of each image to train on; 0: the unaugmented image
    "min_scale": 0.08,  # smallest share of an image that such a crop covers
    "standardize": False,  # take out mean and deviation of every feature
    "seed": 0,
  }


def retrieval() -> dict:
  """Options of segment retrieval in the protocol of Pascal VOC."""
  return {
    "levels": (-1,),  # whose segments are named; -1: the coarsest
    "num_regions": (32, 16, 8, 4),  # of the k-means of a ViT: the clusters of cast_tiny
    "stages": (0, 1, 2, 3),  # whose tokens describe a superpixel, if the model embeds none
    "num_neighbors": 20,
    "classes": ("label",),  # and "group", "whole", where labels.csv has them
    "tolerance": 0.0075,  # diagonals between boundaries that still agree; 0: no boundary scores
    "seed": 0,
  }


def hierarchy() -> dict:
  """Options of the hierarchy evaluator, for data with masks of objects and parts."""
  return {
    "num_examples": 500,
    "num_pictures": 8,
    "num_regions": (32, 16, 8, 4),  # the clusters of cast_tiny
    "baselines": ("grid", "slic", "ward"),  # or "seeds", "felzenszwalb"; of a ViT "spectral"
    "tolerance": 1.5,  # pixels between boundaries that still agree
    "seed": 0,
  }


def adaptation() -> dict:
  """Options of the test-time adaptation evaluator: each image alone, the norms' parameters only."""
  return {
    "num_examples": 50,
    "mode": "episodic",  # every group of images from the start, or "online": on from the last
    "group_size": 1,  # images adapted to at a time
    "parameters": "norm",  # scales and biases of the normalisations, or "all"
    "statistics": "running",  # of batch normalisation: training's, or "batch"
    "optimizer": "sgd",  # or "adamw"
    "steps": 10,
    "learning_rate": 1e-3,
    "corruption": "none",  # or "noise", "blur", "contrast"
    "severity": 3,  # of the corruption, 1 to 5
    "seed": 0,  # of the noise
  }


def part_whole() -> dict:
  """Options of the part-whole evaluator, for data with masks and names of objects and parts."""
  return {
    "num_examples": 500,
    "num_regions": (32, 16, 8, 4),  # of a ViT's k-means; the clusters of cast_tiny
    "object_level": -1,  # the coarsest; its regions are named as objects
    "part_level": -2,  # the one below; its regions are named as parts
    "labellings": ("oracle",),  # and "clip", which wants the extra hseg_jax[clip]
    "clip_model": "ViT-B-16",  # of open_clip
    "clip_weights": "openai",  # a tag of open_clip, or a file
    "tolerance": 1.5,  # pixels between boundaries that still agree
    "seed": 0,
  }


def figure_ground() -> dict:
  """Options of the figure-ground evaluator, for data with masks of objects or of classes."""
  return {
    "num_examples": 500,
    "num_regions": (32, 16, 8, 4),  # of a ViT's k-means; the clusters of cast_tiny
    "share": 0.6,  # of the attention that a mask keeps, as in DINO
    "seed": 0,
  }


def finish(config: ConfigDict, arg: str) -> ConfigDict:
  """Applies the argument behind the colon of `--config FILE:ARG` and locks the config.

  Raises:
    ValueError: the argument is neither empty nor "smoke".
  """
  if arg not in ("", "smoke"):
    raise ValueError(f"{arg!r} is no form of this config; it has ':smoke' only.")
  if arg == "smoke":
    _shrink(config)
  config.evaluators.lock()
  return config


def _shrink(config: ConfigDict) -> None:
  """Two steps of four images, one block a stage; superpixels, views and optimizer stay."""
  config.batch_size = 4
  config.num_steps, config.num_epochs = 2, 0.0
  config.log_every_steps, config.eval_every_steps, config.checkpoint.every_steps = 1, 2, 2
  config.model.depths = (1,) if config.model.name.startswith("vit") else (1, 1, 1, 1)
  config.data.num_train, config.data.num_val, config.data.num_workers = 16, 8, 0
  config.objective.hidden_dim = 64
  config.optimizer.warmup_steps = 1
  if "knn" in config.evaluators:
    config.evaluators.knn.bank_size = 8
  if "hierarchy" in config.evaluators:
    config.evaluators.hierarchy.num_examples, config.evaluators.hierarchy.num_pictures = 4, 1

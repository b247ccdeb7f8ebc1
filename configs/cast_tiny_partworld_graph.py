"""CAST-tiny on PartWorld, supervised, with regions that hang together.

  hseg train --config configs/cast_tiny_partworld_graph.py --workdir runs/cast_tiny_partworld_graph

`configs/cast_tiny_partworld.py` with poolings that follow the graph of the segments.

Must reach: not known; only its smoke form was run.
Cost: not yet measured; a step takes 4 % more processor time than without.
"""

from configs import cast_tiny_partworld


def get_config(arg: str = ""):
  """Returns the config; `arg` is "" or "smoke"."""
  config = cast_tiny_partworld.get_config(arg)
  config.model.assignment = "path"
  return config

"""What accelerators can compute at most, as their makers state it."""

# Part of the name that jax gives a device -> floating-point operations per second of dense matrix
# products; the first that fits counts. In float32 NVIDIA's are those of TF32, which jax's default
# precision uses there; Google states none.
_PEAKS = (
  ("TPU v4", {"bfloat16": 275e12}),
  ("TPU v5 lite", {"bfloat16": 197e12}),
  ("TPU v5e", {"bfloat16": 197e12}),
  ("TPU v5", {"bfloat16": 459e12}),  # v5p
  ("TPU v6", {"bfloat16": 918e12}),
  ("A100", {"bfloat16": 312e12, "float32": 156e12}),
  ("H100 PCIe", {"bfloat16": 756e12, "float32": 378e12}),
  ("H100", {"bfloat16": 989e12, "float32": 494e12}),
  ("H200", {"bfloat16": 989e12, "float32": 494e12}),
)


def find(device_kind: str, dtype: str) -> float | None:
  """Floating-point operations per second of one device; None where nothing is known of it.

  Args:
    device_kind: as jax calls it, such as "NVIDIA H100 80GB HBM3".
    dtype: of the products' factors.
  """
  for part, peaks in _PEAKS:
    if part.lower() in device_kind.lower():
      return peaks.get(dtype)
  return None

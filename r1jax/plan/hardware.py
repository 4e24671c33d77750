"""The chips that a plan can be made for, and what --topology names."""

import dataclasses
import math
import os
import re

GiB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """Peaks of one chip, as its maker gives them."""

  hbm: int  # bytes
  flops: float  # dense bfloat16 FLOP/s
  hbm_bandwidth: float  # bytes/s
  link_bandwidth: float  # bytes/s that one chip sends over all its links: ICI of a TPU, NVLink of a GPU
  # Whether there is a kernel for the experts' products. Where there is none, every row is multiplied by the weights of
  # every expert of the chip, and the surplus masked: jaxlib 0.10's default on GPUs, as reported for it; not measured.
  grouped: bool = False


# TPUs: the pages "TPU v4", "TPU v5e", "TPU v5p", "TPU v6e" of Google Cloud's documentation. Their inter-chip figure, in
# Gbit/s a chip, counts both directions (v4 2,400, v5e 1,600, v5p 4,800, v6e 3,200 and more lately); half of it is sent.
# GPUs: NVIDIA's data sheets of A100 80GB SXM, H100 SXM and H200 SXM; FLOP/s without sparsity, half of the NVLink figure
# (600, 900, 900 GB/s), which counts both directions, too. Beyond the eight GPUs of one node the network is slower.
CHIPS = {
  "v4": Chip(32 * GiB, 275e12, 1.228e12, 150e9, grouped=True),
  "v5e": Chip(16 * GiB, 197e12, 0.819e12, 100e9, grouped=True),
  "v5p": Chip(95 * GiB, 459e12, 2.765e12, 300e9, grouped=True),
  "v6e": Chip(32 * GiB, 918e12, 1.638e12, 200e9, grouped=True),
  "a100": Chip(80 * 10**9, 312e12, 2.039e12, 300e9),
  "h100": Chip(80 * 10**9, 989e12, 3.35e12, 450e9),
  "h200": Chip(141 * 10**9, 989e12, 4.8e12, 450e9),
}
GPUS = ("a100", "h100", "h200")
NODE = 8  # GPUs that NVLink joins


@dataclasses.dataclass(frozen=True)
class Machine:
  name: str
  count: int  # chips
  chip: Chip
  devices: tuple | None  # to compile for; None: no compiler, everything by arithmetic
  notes: tuple[str, ...] = ()
  platform: str = "tpu"


def machine(topology: str, compiled: bool = True) -> Machine:
  """The machine that --topology names, with its devices or without; ValueError for one that is not known."""
  generation, _, shape = topology.partition(":")
  if topology == "local":
    found = local()
    return found if compiled else dataclasses.replace(found, devices=None)
  if generation not in CHIPS or not shape:
    raise ValueError(
      f"--topology={topology} must be local or one of {', '.join(CHIPS)} with a shape, as v5e:2x4 or h100:8."
    )
  if generation in GPUS:
    if not re.fullmatch("[1-9][0-9]*", shape):
      raise ValueError(f"--topology={topology} must give the number of GPUs, as {generation}:8.")
    count = int(shape)
    beyond = f"{count} GPUs are more than the {NODE} of a node: between nodes the network is slower than assumed."
    return Machine(topology, count, CHIPS[generation], None, (beyond,) if count > NODE else (), "gpu")
  if not compiled:
    if not re.fullmatch("[1-9][0-9]*(x[1-9][0-9]*)*", shape):
      raise ValueError(f"--topology={topology} must give the shape of the slice, as v5e:2x4 or v5p:8x8x16.")
    return Machine(topology, math.prod(map(int, shape.split("x"))), CHIPS[generation], None)
  devices = pod(topology)
  return Machine(topology, len(devices), CHIPS[generation], devices)


def pod(topology: str) -> tuple:
  """The devices of a TPU slice that need not exist, from libtpu."""
  # No TPU is asked for what it is, and none is opened: several plans may be made at a time.
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
  from jax.experimental import topologies

  try:
    return tuple(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
  except Exception as error:  # of libtpu, in many words and classes
    reason = " ".join(str(error).split())[:200]
    raise ValueError(f"--topology={topology} cannot be compiled for: {reason}; is libtpu installed?") from error


def local() -> Machine:
  """The devices of this machine. Peaks of a device that is not in the table are not known: its times are nan."""
  import jax

  devices = tuple(jax.devices())
  stats = devices[0].memory_stats() or {}
  pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  memory = stats.get("bytes_limit", pages // len(devices))
  kind = devices[0].device_kind
  names = {"v4": "v4", "v5 lite": "v5e", "v5e": "v5e", "v5p": "v5p", "v5": "v5p", "v6": "v6e"}
  names |= {"A100": "a100", "H100": "h100", "H200": "h200"}
  found = next((CHIPS[name] for part, name in names.items() if part in kind), None)
  unknown = Chip(memory, float("nan"), float("nan"), float("nan"), grouped=True)
  chip = dataclasses.replace(found, hbm=memory) if found else unknown
  notes = () if found else (f"The peaks of {kind!r} are not in the table: there are no times.",)
  return Machine("local", len(devices), chip, devices, notes, devices[0].platform)

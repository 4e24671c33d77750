"""Packaging of r1jax."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.*)"', (HERE / "r1jax/__init__.py").read_text())[1]

HUB = ["datasets>=3", "pyarrow>=15", "zstandard>=0.22"]  # data sets of the hub, parquet, .zst

setup(
  name="r1jax",
  version=VERSION,
  description="DeepSeek-R1 from end to end in JAX",
  long_description=(HERE / "README.md").read_text(),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=find_packages(include=["r1jax*", "configs*", "experiments*"]),
  package_data={"r1jax.report": ["assets/*"]},
  install_requires=[
    "absl-py",
    "flax>=0.12",
    "grain>=0.2.10",
    "huggingface_hub>=0.30",
    "jax>=0.10",
    "jinja2>=3.1.6",
    "jsonschema>=4.18",
    "latex2sympy2_extended>=1.10",
    "math-verify>=0.8",
    "matplotlib>=3.8",
    "ml_collections>=1.0",
    "ml_dtypes>=0.5",
    "numpy>=1.26",
    "optax>=0.2.6",
    "orbax-checkpoint>=0.11.20",
    "rich>=13",
    "sentencepiece>=0.2",
    "sympy>=1.12",
    "tensorboard>=2.16",
    "tokenizers>=0.21",
  ],
  extras_require={
    "gpu": ["jax[cuda12]>=0.10"],
    "tpu": ["jax[tpu]>=0.10"],
    "hub": HUB,
    "reasoning-gym": ["reasoning-gym"],
    "test": [
      "hypothesis>=6.100",
      "pytest>=8",
      "pytest-timeout>=2.3",
      "pytest-xdist>=3.5",
      "ruff>=0.6",
      "safetensors>=0.5",
      *HUB,
    ],
    "parity": ["torch>=2.6", "transformers>=5.0"],  # tests against their models, tokenizers and chat templates
    "plan": ["libtpu"],  # compiles for TPU pods on a machine without one
  },
)

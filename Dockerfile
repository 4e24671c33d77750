# r1jax for one machine, or for every host of a cluster (docs/pods.md).
#
#   docker build --build-arg EXTRAS=tpu,hub -t r1jax .
#
# EXTRAS are those of setup.py, with commas: tpu or gpu for the chips (a GPU needs nothing but the driver on its
# host), hub for data sets of the hub.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

# bubblewrap is the sandbox of the programs that a model writes.
RUN apt-get update \
  && apt-get install --yes --no-install-recommends bubblewrap \
  && rm -rf /var/lib/apt/lists/*

# What it depends on: a layer that a change of the code leaves as it is.
ARG EXTRAS=hub
WORKDIR /r1jax
COPY setup.py pyproject.toml README.md ./
COPY r1jax/__init__.py r1jax/
RUN pip install --no-cache-dir ".[${EXTRAS}]"

# Where it lies, so that --config=experiments/... and the report's assets are found. Compiled now, because its user may
# not write here, and a sandbox starts a third faster.
COPY . .
RUN pip install --no-cache-dir --no-deps --editable . \
  && rm -rf build \
  && python -m compileall -q r1jax configs experiments

# The default --workdir is runs/<experiment>.
RUN useradd --create-home --uid 1000 r1jax && install --directory --owner=r1jax runs
USER r1jax
# A log shows a line when it is written.
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["python", "-m", "r1jax.main"]

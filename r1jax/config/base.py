"""What every config class shares."""

import dataclasses

# Slots leave no zero-argument super(): a config that checks what its parent checks calls Parent.validate(self).
config = dataclasses.dataclass(kw_only=True, slots=True, unsafe_hash=True)


def at_least(lowest: float, owner: str, record, *names: str):
  """Raises a ValueError that names the first of these fields that is below `lowest`."""
  for name in names:
    if getattr(record, name) < lowest:
      raise ValueError(f"{owner}.{name}={getattr(record, name)} must be at least {lowest}.")

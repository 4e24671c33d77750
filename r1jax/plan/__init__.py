"""What the programs of a run need of the machine they are for: memory, arithmetic, traffic, time. docs/plan.md."""

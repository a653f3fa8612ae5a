"""Measures gpuplan against other engines on the same graphs, in the same run.

`python -m bench` runs it; `docs/performance.md` says what is compared and holds the last table. Standard library only,
so that the measuring process stays small (see `measure`).
"""

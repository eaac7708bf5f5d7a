"""What happens when a registration settles; `on` is what a worker's own module begins with."""

from __future__ import annotations

from bgfetch.worker.handlers import on as on

__all__ = ["on"]

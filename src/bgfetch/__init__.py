"""Background Fetch for AI models: downloads that outlive what asked for them, and end verified."""

from __future__ import annotations

__version__ = "0.1.0"

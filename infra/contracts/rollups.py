"""Where the batch job's result lies in the bucket."""

from __future__ import annotations

SALES_ROLLUP = "rollups/sales/"
"""Below it each run has its folder; `latest.json` names the one to read."""

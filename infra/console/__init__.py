"""The console: a live page over streams, fraud, archive, clusters and results. Read only, behind a token."""

"""What both sides of a boundary agree on: requests, columns, errors. Pure: no I/O, no settings."""

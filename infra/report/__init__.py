"""Reports: figures of a job -> report.json, report.html and a short table for the terminal."""

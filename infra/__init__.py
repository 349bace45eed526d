"""The platform: all that a workload stands on. Workloads import it; it starts them as processes."""

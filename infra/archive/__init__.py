"""The archive in S3: what a stream's records are written as, what says so, and how it is read back."""

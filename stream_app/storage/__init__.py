"""Bytes on disk: files, checkpoints, locks. Knows no feed."""

"""Bytes on disk or in an object store: files, checkpoints, locks, tables. It knows no feed."""

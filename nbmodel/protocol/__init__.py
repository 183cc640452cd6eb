"""Open Inference Protocol v2 between arrays and bytes; no network, no files."""

"""Serving the local registry over the OCI distribution API."""

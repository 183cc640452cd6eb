"""What importers and exporters agree on: words of formats, and the record that comes back."""

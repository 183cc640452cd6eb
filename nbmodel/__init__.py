"""nbmodel: machine-learning models from a notebook cell to an edge device and back."""

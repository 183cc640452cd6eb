"""How each kind of model answer is shown: one file a kind."""

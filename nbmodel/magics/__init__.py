"""``%load_ext nbmodel``: the ``%mlmodel`` magic, a thin reader of the verbs."""

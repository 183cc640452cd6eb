"""Values: frozen, without I/O, standard library only."""

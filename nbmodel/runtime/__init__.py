"""The edge process: config, packages, services, and the HTTP front ends over them."""

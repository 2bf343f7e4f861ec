"""C code of each op family; `nimbleq.deploy.c` puts the pieces together."""

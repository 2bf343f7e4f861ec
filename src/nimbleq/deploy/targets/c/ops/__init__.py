"""C code of each op family; `nimbleq.deploy.targets.c.emit` puts the pieces together."""

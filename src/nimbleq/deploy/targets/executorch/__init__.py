"""ExecuTorch: a policy as a torch module, lowered to XNNPACK and written as a ``.pte``."""

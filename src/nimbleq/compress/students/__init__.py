"""Who can be taught: the networks that distillation fits."""

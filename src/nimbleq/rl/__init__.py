"""Learning: environments, replay, networks, the training loop, evaluation. Import its modules; this file stays empty of
imports so that evaluation workers start without torch.
"""

"""Other libraries' checkpoint files: read without running any of their code."""

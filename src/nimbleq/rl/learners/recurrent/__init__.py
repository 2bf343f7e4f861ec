"""The engine ``recurrent``: networks that remember, from sequences."""

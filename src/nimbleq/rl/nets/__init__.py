"""The networks: torsos, bodies, heads and their losses."""

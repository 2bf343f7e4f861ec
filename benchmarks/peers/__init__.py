"""DQNs that train beside nimbleq ★: a file each, and a line here.

Beside them: `cleanrl`, a recipe that is trained as a whole; `tianshou`, the peer of prioritised replay;
`cleanrl_atari`, the peer on a CUDA device.
"""

from __future__ import annotations

from benchmarks.peers.sb3 import SB3
from benchmarks.peers.sbx import SBX

PEERS = {peer.name: peer for peer in (SB3, SBX)}

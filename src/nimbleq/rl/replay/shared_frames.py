"""Images of a replay memory, each plane stored once.

A stack of four frames shows every frame in four observations, and every observation is seen twice, as ``obs`` and as
``next_obs``. `SharedFrames` finds the planes ``[H, W]`` that an environment has just shown already, by their content,
and replaces observations by the numbers of their planes. So nothing is assumed of how an environment stacks, resets or
truncates: what is read back is what was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nimbleq.rl.replay.frame_store import make_frame_store
from nimbleq.rl.replay.priority import replay_extension
from nimbleq.types import Array, ObsSpec, Step

NOWHERE = -1
"""In place of a segment."""


def shares_frames(obs: ObsSpec) -> bool:
    """Whether observations are images ``uint8 (C, H, W)``, which `SharedFrames` stores."""
    return obs.dtype == "uint8" and len(obs.shape) == 3


def share(new: Array, old: Array) -> Array:
    """Which plane shows the same as each plane of ``new: uint8[N, C, P]``, within its environment.

    Returns:
        ``int32[N, C]``: ``j`` for plane ``j`` of ``old``, else ``C + j`` for plane ``j`` < c of ``new``, else −1.
    """
    envs, planes, _ = new.shape
    source = np.full((envs, planes), -1, np.int32)
    for n, k in np.ndindex(envs, planes):
        candidates = (*old[n], *new[n, :k])
        source[n, k] = next((j for j, plane in enumerate(candidates) if np.array_equal(plane, new[n, k])), -1)
    return source


class SharedFrames:
    """Turns the images of ``envs`` environments into numbers of planes, ``int32[*, C]``, and back.

    Planes stay for as long as an environment shows them, and until everybody who held them has released them.

    Attributes:
        stored: called with numbers ``int32[K]`` and pixels ``uint8[K, P]`` of planes that were just stored (None: no
            call).
        segment: ``int32[≥ numbers]`` which segment of the checkpoint holds each plane (`NOWHERE`: none yet);
            `nimbleq.rl.replay.disk_log` sets it.
    """

    def __init__(self, obs: ObsSpec, envs: int, compress: bool) -> None:
        self.shape = obs.shape
        self.stored: Callable[[Array, Array], None] | None = None
        channels, height, width = obs.shape
        extension = replay_extension()
        self._share = share if extension is None else extension.share
        self._store = make_frame_store(height * width, compress)
        self._shown = np.zeros((envs, channels, height * width), np.uint8)
        self.segment = np.full(0, NOWHERE, np.int32)
        black = self._put(self._shown[0, :1], np.array([-1], np.int32))
        self._ids = np.full((envs, channels), black[0], np.int32)
        self._store.hold(self._ids.ravel()[1:])

    def take(self, step: Step) -> Step:
        """``step`` with numbers in place of images. The planes of ``obs`` are held for the caller, to be released;
        those of ``next_obs`` last until the next call unless they are held too.
        """
        obs = self._show(step.obs)
        self._store.hold(obs)
        return step._replace(obs=obs, next_obs=self._show(step.next_obs))

    def _show(self, images: Array) -> Array:
        channels = self.shape[0]
        new = np.ascontiguousarray(images).reshape(self._shown.shape)
        source = self._share(new, self._shown)
        # Most observations are shown already when they are acted on.
        if (source == np.arange(channels)).all():
            return self._ids
        new = new.copy()  # environments may use their memory again
        fresh = source < 0
        ids = np.take_along_axis(self._ids, source % channels, axis=1)
        near = np.broadcast_to(self._ids[:, -1:], ids.shape)
        ids[fresh] = self._put(new[fresh], near[fresh])
        for k in range(1, channels):  # planes that repeat an earlier one of their image, which may itself repeat one
            repeats = np.flatnonzero(source[:, k] >= channels)
            ids[repeats, k] = ids[repeats, source[repeats, k] - channels]
        self._store.hold(ids[~fresh])
        self._store.release(self._ids)
        self._ids, self._shown = ids, new
        return ids

    def _put(self, planes: Array, near: Array) -> Array:
        ids = self._store.put(planes, near)
        needed = int(ids.max(initial=-1)) + 1
        if needed > len(self.segment):
            more = max(needed, 2 * len(self.segment)) - len(self.segment)
            self.segment = np.concatenate([self.segment, np.full(more, NOWHERE, np.int32)])
        self.segment[ids] = NOWHERE
        if self.stored is not None:
            self.stored(ids, planes)
        return ids

    def hold(self, ids: Array) -> None:
        """Keep planes until they are released as often."""
        self._store.hold(ids)

    def release(self, ids: Array) -> None:
        """Give back what `take` or `hold` gave."""
        self._store.release(ids)

    def images(self, obs_ids: Array, next_ids: Array) -> tuple[Array, Array]:
        """``int32[B, C]`` twice ``→ uint8[B, C, H, W]`` twice."""
        obs, next_obs = self._store.get_pairs(obs_ids, next_ids)
        return obs.reshape(-1, *self.shape), next_obs.reshape(-1, *self.shape)

    def alive(self) -> Array:
        """``int32[K]`` the numbers of all planes that are stored."""
        return np.flatnonzero(self._store.tables()[0] > 0).astype(np.int32)

    def pixels(self, ids: Array) -> Array:
        """``int32[K] → uint8[K, P]``."""
        planes: Array = self._store.get(ids[None])[0]
        return planes

    def arrays(self) -> dict[str, Array]:
        """What has to be written whole to a checkpoint; `dump` gives the planes."""
        references, spare = self._store.tables()
        return {"references": references, "spare": spare, "shown": self._ids.copy()}

    def missing(self, among: Array | None = None) -> Array:
        """``int32[K]`` the planes (of those ``among: int32``, any shape) that no segment of the checkpoint holds."""
        if among is not None:
            ids: Array = np.unique(among)
            return ids[self.segment[ids] < 0]
        alive = self._store.tables()[0] > 0
        return np.flatnonzero(alive & (self.segment[: len(alive)] < 0)).astype(np.int32)

    def dump(self, ids: Array) -> dict[str, Array]:
        """The planes ``ids: int32[K]``, compressed, as `place` takes them."""
        codes, length, key = self._store.dump(ids)
        return {"ids": ids, "codes": np.frombuffer(codes, np.uint8), "length": length, "key": key}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Begin to continue from what `arrays` returned: `place` of all planes and `settle` follow.

        Raises:
            ValueError: here and there: the parts contradict each other.
        """
        self._store.restore(arrays["references"], arrays["spare"])
        self.segment = np.full(len(arrays["references"]), NOWHERE, np.int32)
        self._ids = arrays["shown"].copy()

    def place(self, planes: Mapping[str, Array], segment: int) -> None:
        """Take in what `dump` returned, which lies in ``segment`` of the checkpoint."""
        self._store.place(planes["ids"], planes["codes"], planes["length"], planes["key"])
        self.segment[planes["ids"]] = segment

    def settle(self) -> None:
        """All planes are placed."""
        self._store.settle()
        self._shown = self._store.get(self._ids)

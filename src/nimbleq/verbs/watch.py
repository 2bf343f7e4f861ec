"""``nimbleq watch``: play greedy episodes of an artefact, and write them as an animated picture."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from nimbleq.console import Console
from nimbleq.errors import ConfigError, EnvError, FileError
from nimbleq.files import write_bytes
from nimbleq.graph.artefact import Artefact, load_artefact
from nimbleq.graph.guard_state import GuardedEpisodes, GuardState
from nimbleq.graph.interpret import GraphPolicy, Remembering
from nimbleq.rl.envs.batch import EnvBatch
from nimbleq.rl.envs.engines import make_env_batch
from nimbleq.rundir import RunDir
from nimbleq.types import Array, Policy, Tick
from nimbleq.verbs.common import Output, artefact_of_run, renew_teacher, run_env

_MIN_PIXELS = 160  # smaller frames are enlarged: MinAtar draws 10 × 10
_FPS, _ATARI_FPS = 25.0, 15.0  # frames per second if the environment does not say; Atari acts on every fourth of 60
_GIF_MS = 10  # the time unit of GIF; players slow down frames shorter than two units
_QUIET = {"SDL_VIDEODRIVER": "offscreen", "SDL_AUDIODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
"""Environment variables that make pygame work without a screen, in silence; highway-env does not draw at all with the
driver ``dummy``."""


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Play greedy episodes, print their returns, and write a GIF if the environment draws images.

    Attributes:
        artefact: artefact folder or run directory (its compressed policy, else the trained one).
        episodes: number of episodes.
        seed: of the episodes.
        out: the GIF (default watch.gif in the run directory).
        max_frames: most frames in the GIF; the rest is played without drawing, and a line says so.
    """

    artefact: Annotated[Path, tyro.conf.Positional]
    episodes: int = 1
    seed: int = 0
    out: Path | None = None
    max_frames: int = 1_000


@dataclass
class _Playing:
    """The episodes played so far.

    Attributes:
        returns: of the finished episodes.
        lengths: of them, in steps.
    """

    returns: list[float]
    lengths: list[int]


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Play, draw, print."""
    from nimbleq.seeds import episode_seeds

    if args.out is not None and args.out.suffix.lower() != ".gif":
        raise ConfigError(f"{args.out} is not the name of a GIF: choose one that ends in .gif")
    path, run = _policy_of(args.artefact)
    artefact, env = load_artefact(path), run_env(run)
    played = _Playing([], [])
    seeds = episode_seeds("watch", args.seed, args.episodes)
    frames: list[Array] = []
    drawn = 0
    with without_screen(), contextlib.closing(make_env_batch(env, 1, pictures=True)) as batch:
        with console.progress("play") as tick:
            for frame in _play(batch, artefact, seeds, played):
                drawn += frame is not None
                if frame is not None and len(frames) < args.max_frames:
                    frames.append(_enlarged(frame))
                tick(len(played.returns), args.episodes, f"{drawn} pictures")
        fps = _ATARI_FPS if env.id.startswith("ALE/") else getattr(batch, "render_fps", None) or _FPS
    gif = _written(frames, fps, args.out, run, env.id, console)
    for number, (total, length) in enumerate(zip(played.returns, played.lengths, strict=True), start=1):
        console.say(f"episode {number}: return {total:g} in {length} steps")
    if gif is not None:
        cut = f" (the first of {drawn}: --max-frames takes more)" if drawn > len(frames) else ""
        console.say(f"{len(frames)} frames{cut} → {gif}")
    result = {
        "artefact": str(path), "env": env.id, "episodes": args.episodes, "returns": played.returns,
        "lengths": played.lengths, "return_mean": float(np.mean(played.returns)), "gif": gif and str(gif),
        "frames": len(frames) if gif else 0, "frames_drawn": drawn, "fps": fps,
    }  # fmt: skip
    return result, True


@contextmanager
def without_screen() -> Iterator[None]:
    """pygame draws into memory, and its libraries print nothing on standard error."""
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update({name: value for name, value in _QUIET.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]


def _policy_of(path: Path) -> tuple[Path, RunDir]:
    run = RunDir(path)
    if not run.config.exists():
        return artefact_of_run(path, "there is nothing that says in which environment it plays")
    renew_teacher(run)
    if not run.teacher.exists():
        raise FileError(
            f"{path} has no policy yet, because training stopped before the first check: resume it with "
            f"nimbleq train --resume --out {path}"
        )
    return (run.teacher, run) if not run.artefacts() else artefact_of_run(path, "")


def _play(batch: EnvBatch, artefact: Artefact, seeds: Array, played: _Playing) -> Iterator[Array | None]:
    """Pictures before the first and after each step of greedy episodes, one after the other."""
    index = np.zeros(1, np.int64)
    state = None if artefact.guard is None else GuardState(artefact.guard, artefact.graph)
    policy: Policy = GraphPolicy(artefact.graph) if state is None else partial(GuardedEpisodes(state), episode=index)
    for seed in seeds.tolist():
        if state is not None:
            state.reset()
        if artefact.graph.units:  # no guard goes with it
            policy = partial(Remembering(artefact.graph, 1), episode=index)
        obs, total, length, over = batch.reset(0, seed)[None], 0.0, 0, False
        yield batch.picture(0)
        while not over:
            action = policy(obs) if batch.mask is None else policy(obs, mask=batch.mask)
            obs, reward, terminated, truncated = batch.step(index, action)
            total, length, over = total + float(reward[0]), length + 1, bool(terminated[0] or truncated[0])
            yield batch.picture(0)
        played.returns.append(total)
        played.lengths.append(length)


def _enlarged(frame: Array) -> Array:
    times = -(-_MIN_PIXELS // min(frame.shape[:2]))
    return frame.repeat(times, axis=0).repeat(times, axis=1)


def _written(frames: list[Array], fps: float, out: Path | None, run: RunDir, env: str, console: Console) -> Path | None:
    """Write the GIF; without ``out`` a missing image or package, or a folder without write access, is only reported."""
    try:
        if not frames:
            raise EnvError(f"{env} draws no images, so there is no GIF; without --out its returns are printed")
        path = out or run.path / "watch.gif"
        with console.progress("write the GIF") as tick:
            write_bytes(path, _gif(frames, fps, tick))
    except (EnvError, ConfigError, FileError) as error:
        if out is not None:
            raise
        console.say(f"no GIF: {error}")
        return None
    return path


def _gif(frames: list[Array], fps: float, tick: Tick) -> bytes:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ConfigError("a GIF needs pillow: pip install 'nimbleq[watch]'") from error

    def images() -> Iterator[Any]:
        for number, frame in enumerate(frames):
            tick(number, len(frames))
            # An octree takes a quarter of the time of pillow's own choice of colours, and games have few.
            yield Image.fromarray(frame).quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)

    first, rest = next(made := images()), made
    stream = io.BytesIO()
    duration = max(2, round(1000 / fps / _GIF_MS)) * _GIF_MS
    first.save(stream, "GIF", save_all=True, append_images=rest, duration=duration, loop=0)
    return stream.getvalue()

"""A picture of a policy: three moments of an episode that it plays, or else returns, of its certificate or computed."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases.train_curves import standalone
from nimbleq.errors import EnvError
from nimbleq.files import read_json
from nimbleq.graph.artefact import Artefact, load_artefact
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.report import units
from nimbleq.report.svg import Frame, Scale, axes, legend, marker, padded, rect, svg, text
from nimbleq.rl.envs.engines import make_env_batch
from nimbleq.rundir import RunDir
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array
from nimbleq.verbs.common import run_env
from nimbleq.verbs.watch import without_screen
from nimbleq.verbs.zoo import EXACT

HEIGHT = 120  # pixels of a frame
MOMENTS = (0.15, 0.5, 0.85)  # of an episode
WIDTH, HIGH, BINS = 420.0, 220.0, 24


def picture_of(run: Path) -> tuple[str, bytes | None]:
    """Name of the file and its bytes; None where it is drawn elsewhere (flights of robots) or cannot be drawn here."""
    name, known = run.name, RunDir(run)
    env = run_env(known)
    task = env.id.partition("examples.crazyflie:")[2]
    if task:
        return f"../robot-{task}.svg", None
    small = load_artefact(known.artefact("small"))
    try:
        frames = _frames(env, small)
    except EnvError:  # its package is not here
        frames = []
    if frames:
        return f"{name}.png", _strip(frames)
    if small.certificate:
        return f"{name}.svg", _returns(small)
    return f"{name}.svg", _computed(read_json(known.path / EXACT)["returns"])


def _frames(env: Any, small: Artefact) -> list[Array]:
    """Those of the `MOMENTS` of a greedy episode; none where the environment draws none."""
    [seed] = episode_seeds("watch", 0, 1).tolist()
    policy, index, drawn = GraphPolicy(small.graph), np.zeros(1, np.int64), []
    with without_screen(), contextlib.closing(make_env_batch(env, 1, pictures=True)) as batch:
        obs, over = batch.reset(0, seed)[None], False
        while not over:
            drawn.append(batch.picture(0))
            if drawn[-1] is None:
                return []
            action = policy(obs) if batch.mask is None else policy(obs, mask=batch.mask)
            obs, _, terminated, truncated = batch.step(index, action)
            over = bool(terminated[0] or truncated[0])
    return [frame for share in MOMENTS if (frame := drawn[int(share * len(drawn))]) is not None]


def _strip(frames: list[Array]) -> bytes:
    """They side by side, as a PNG."""
    from PIL import Image

    def scaled(frame: Array) -> Any:
        image = Image.fromarray(frame)
        how = Image.Resampling.NEAREST if image.height < HEIGHT else Image.Resampling.LANCZOS
        return image.resize((round(image.width * HEIGHT / image.height), HEIGHT), how)

    images = [scaled(frame) for frame in frames]
    gap, whole = 4, sum(image.width for image in images)
    strip = Image.new("RGB", (whole + gap * (len(images) - 1), HEIGHT), "white")
    left = 0
    for image in images:
        strip.paste(image, (left, 0))
        left += image.width + gap
    stream = io.BytesIO()
    strip.quantize(64, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _returns(small: Artefact) -> bytes:
    """Returns of the teacher and the small policy on the same episodes, as an SVG."""
    certificate = small.certificate or {}
    teacher, student = (np.asarray(certificate["returns"][name], float) for name in ("teacher", "student"))
    edges = np.histogram_bin_edges(np.concatenate([teacher, student]), BINS)
    counts = [np.histogram(values, edges)[0] for values in (teacher, student)]
    frame = Frame(WIDTH, HIGH, top=56)
    x = Scale(*padded(edges.tolist()), *frame.x)
    y = Scale(0.0, 1.1 * float(max(count.max() for count in counts)), *frame.y, whole=True)
    parts = [axes(frame, x, y, x_label="return", y_label="episodes", x_format=units.trimmed, y_format=units.count)]
    for place, class_ in enumerate(("band", "cell action1")):
        for low, high, count in zip(edges, edges[1:], counts[place], strict=False):
            left, wide = x(float(low)), x(float(high)) - x(float(low))
            parts.append(rect(left + place * wide / 2, y(float(count)), wide / 2, frame.y[0] - y(float(count)), class_))
    key, _ = legend(
        [(rect(-6, -6, 12, 12, class_), words) for class_, words in (("band", "teacher"), ("cell action1", "small"))],
        frame.left, 14, WIDTH,
    )  # fmt: skip
    words = "Returns of teacher and small policy on the same episodes"
    return standalone(svg(WIDTH, HIGH, words, *parts, key), WIDTH)


def _computed(returns: dict[str, float]) -> bytes:
    """What policies are worth, each a dot on a line, as an SVG."""
    ranked = sorted(returns.items(), key=lambda one: one[1])
    frame = Frame(WIDTH, HIGH, left=90)
    x, step = Scale(*padded(returns.values()), *frame.x), (frame.y[0] - frame.y[1]) / len(ranked)
    parts = [axes(frame, x, None, x_label="return", x_format=units.trimmed)]
    for place, (name, value) in enumerate(ranked):
        y = frame.y[0] - (place + 0.5) * step
        parts.append(text(frame.left - 8, y + 4, name, anchor="end"))
        parts.append(marker("circle", x(value), y, 5, "scratch" if name == "small" else "check"))
    words = "; ".join(f"{name} {value:.4f}" for name, value in ranked)
    return standalone(svg(WIDTH, HIGH, f"Returns, computed: {words}", *parts), WIDTH)

"""A policy network beside its value network: sizes, returns, and how the one judges the other."""

from __future__ import annotations

from nimbleq.report import units
from nimbleq.report.html import paragraph, table
from nimbleq.report.markup import Markup, join
from nimbleq.report.read import RunData


def beside(data: RunData) -> Markup | None:
    """The section; None for a run of one network, or one that is not finished."""
    found = data.train.record("policy_value")
    if not found:
        return None
    rows = [
        (
            name, units.size(found.number(f"{which}_size_bytes")), units.count(found.number(f"{which}_macs")),
            units.value(found.number(f"{which}_return_mean")), use,
        )
        for which, name, use in (
            ("policy", "policy network", "acts; compressed, certified, exported"),
            ("value", "value network", "taught it, judges it"),
        )
    ]  # fmt: skip
    shown = table(("network", "size", "MACs", "return", "use"), rows, text_columns=1)
    who = "value" if found.text("collects") == "value" else "policy"
    buckets = ", ".join(units.percent(share) for share in found.numbers("agreement_by_gap"))
    return join(
        paragraph(
            f"The {who} network played to learn from. The teacher of every certificate in this run is the policy "
            "network: what is certified is that a compressed policy keeps the policy network's return."
        ),
        shown,
        paragraph(
            f"In {units.count(found.number('states'))} states that the policy visits, both choose the same action in "
            f"{units.percent(found.number('agreement'))} (from the closest calls to the clearest: {buckets}). The "
            f"value network estimates {units.value(found.number('policy_value'))} for the policy's decisions and "
            f"{units.value(found.number('best_value'))} for its own: a regret of "
            f"{units.value(found.number('regret'))} a decision."
        ),
    )

"""The Chinese pages: where each lies, and what a table that a benchmark writes says in them."""

from __future__ import annotations

import re
from pathlib import Path

CELLS = {
    # the README
    "environment": "环境",
    "seed": "随机种子",
    "training": "训练",
    "teacher's return": "教师回报",
    "small: size": "小策略大小",
    "smaller": "体积缩小",
    "fewer MACs": "MAC 减少",
    "kept (99 % asked)": "保留比例（要求 99 %）",
    "episodes": "回合数",
    "decision in C": "C 中单次决策",
    "whole line": "全流程",
    "training on 2 CPU cores": "2 个 CPU 核上训练",
    "nimbleq: median, slowest seed": "nimbleq：中位数，最慢种子",
    "peer: median": "对比工具：中位数",
    "theirs ÷ ours [95 %]": "对方 ÷ 我们 [95 %]",
    "LunarLander-v3 to 200, stepping envpool": "LunarLander-v3 to 200，用 envpool 步进",
    "CleanRL's recipe, 500,000 steps": "CleanRL 的配置，500,000 步",
    "CartPole-v1, episodes of 10,000 steps held": "CartPole-v1，坚持满 10,000 步的回合",
    # latency
    "network": "网络",
    "floor of C": "C 的目标线",
    "fastest peer ÷ C": "最快的对比工具 ÷ C",
    "what": "内容",
    "on": "硬件",
    "takes": "用时",
    "source": "来源",
    "a Q4 policy of 7.5 kB": "7.5 kB 的 Q4 策略",
    "CMSIS-NN, CIFAR-10 network of 24.7 M operations": "CMSIS-NN，24.7 M 次运算的 CIFAR-10 网络",
    "TFLM with CMSIS-NN beside ExecuTorch": "TFLM 加 CMSIS-NN，与 ExecuTorch 对比",
    "159 kB beside 53 kB of RAM": "RAM 159 kB 对 53 kB",
    # the fields
    "not measured yet": "尚未测量",
    "road": "道路",
    "who drives": "驾驶者",
    "return (95 % interval)": "回报（95 % 区间）",
    "crashes (95 % interval)": "碰撞（95 % 区间）",
    "size": "大小",
    "by rule": "按规则",
    "at random": "随机",
    "policy": "策略",
    "survival, exact": "生存率（精确）",
    "kept": "保留比例",
    "uniform over admissible actions": "在可选动作中均匀随机",
    "clinicians": "临床医生",
    "optimum": "最优策略",
    "who decides": "决策者",
    "right of 569 (95 % interval)": "569 例中的正确率（95 % 区间）",
    "tests ordered": "检查次数",
    "largest small policy": "最大的小策略",
    "certified": "通过认证",
    "logistic regression, all tests": "逻辑回归，全部检查",
    "market": "市场",
    "who trades": "交易者",
    "2007–2018, a year": "2007–2018，年化",
    "Sharpe ratio": "夏普比率",
    "over buy and hold (95 % interval)": "相对买入持有（95 % 区间）",
    "buy and hold": "买入持有",
    "12-month momentum": "12 个月动量",
    "flat": "空仓",
    "decision after": "决策延迟",
    "policy trained for 1 µs: ticks a race": "按 1 µs 训练的策略：每次竞速赚得的 tick",
    "policy trained for that time": "按该延迟训练的策略",
    # the techniques
    "trainer": "训练器",
    "reached": "达标",
    "median s [95 %]": "中位数 s [95 %]",
    "fresh return": "新回合的回报",
    "TD step": "TD 步",
    "part": "部分",
    "device": "设备",
    "result": "结果",
    "method": "方法",
    "(teacher)": "（教师）",
    "bytes": "字节",
    "kept, 95 %": "保留，95 %",
    "variant": "变体",
    "seeds": "种子数",
    "arm": "组别",
    "÷ alone": "÷ 单独",
    "value network's return": "价值网络的回报",
    "agreement": "一致率",
    "decisions": "决策数",
    "allocations": "内存分配",
    "system calls": "系统调用",
    "locks": "锁",
    "stack / static bytes": "栈 / 静态字节",
}
"""Cell of a table → what it is in Chinese. Other cells (names, figures) stay."""

SENTENCES = {
    "Ratios are medians over interleaved rounds, on one core.": "各比值是交替测量各轮的中位数，均在单核上测得。",
    "Published, not measured here:": "已发表、未在此测量的数据：",
    "not measured yet:": "尚未测量：",
    "From": "来自 ",
}
"""Sentence between tables → what it is in Chinese."""


def chinese_page(page: Path) -> Path:
    """``README.zh.md`` for ``README.md``, ``docs/zh/NAME.md`` for ``docs/NAME.md``."""
    if page.parent.name == "docs":
        return page.parent / "zh" / page.name
    return page.with_suffix(".zh.md")


def in_chinese(table: str) -> str:
    """What a benchmark writes into a page, in Chinese by `CELLS` and `SENTENCES`; links lead out of one folder more."""
    return "\n".join(_row(line) if line.startswith("|") else _text(line) for line in table.split("\n"))


def _row(line: str) -> str:
    return "|".join(_cell(cell) for cell in line.split("|"))


def _cell(cell: str) -> str:
    word = cell.strip()
    return cell.replace(word, CELLS[word]) if word in CELLS else cell


def _text(line: str) -> str:
    for english, chinese in SENTENCES.items():
        line = re.sub(rf"^{re.escape(english)} ?", chinese, line)
    return line.replace("](../", "](../../")

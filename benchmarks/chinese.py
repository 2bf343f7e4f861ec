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
    "IDM and MOBIL": "IDM 加 MOBIL",
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
    "task": "任务",
    "who flies": "飞行者",
    "off the curve, RMS": "偏离曲线，均方根",
    "arrives (95 % interval)": "到达（95 % 区间）",
    "crashes": "坠毁",
    "flash": "Flash",
    "instructions": "指令数",
    "built-in controller": "内置控制器",
    "built-in, straight": "内置控制器，直线",
    "built-in, planned way": "内置控制器，规划的路线",
    "holding still": "悬停不动",
    # the gallery
    "picture": "图片",
    "return, teacher's": "回报，教师的",
    "size, teacher's": "大小，教师的",
    "Cortex-M4: flash, instructions": "Cortex-M4：Flash，指令数",
    "certificate": "证书",
    # games
    "player": "玩家",
    "Elo above chance (95 %)": "Elo（随机为零点，95 %）",
    "ms a move": "每步毫秒",
    "Elo a ms": "每毫秒 Elo",
    "network + search": "网络 + 搜索",
    "against": "对手",
    "score (95 % interval)": "得分率（95 % 区间）",
    "pairs of games": "对局对数",
    "ms a move, both": "双方每步毫秒",
    "who plays": "出牌者",
    "as the landlord": "当地主",
    "as both peasants": "当两个农民",
    "both seats (95 % interval)": "两种座位（95 % 区间）",
    "decks": "牌副数",
    "network, int8": "网络，int8",
    "RLCard's rule player": "RLCard 规则玩家",
    "chance": "随机",
    "game": "游戏",
    "small policy (95 %)": "小策略（95 %）",
    "chance (95 %)": "随机（95 %）",
    "keep": "要求保留",
    "µs a call": "每次调用 µs",
    # the techniques
    "trainer": "训练工具",
    "reached": "达标",
    "median s [95 %]": "中位数 s [95 %]",
    "fresh return": "新回合的回报",
    "TD step": "TD 更新步",
    "eager ÷ ours": "eager ÷ 我们",
    "part": "部分",
    "device": "设备",
    "result": "结果",
    "method": "方法",
    "bytes": "字节数",
    "kept, 95 %": "保留比例，95 %",
    "(teacher)": "（教师）",
    "bytes, about": "字节数，约",
    "weights": "权重",
    "8 bits": "8 位",
    "4 bits": "4 位",
    "3 bits": "3 位",
    "2 bits": "2 位",
    "ternary": "三值",
    "widths": "宽度",
    "regret": "遗憾",
    "variant": "变体",
    "seeds": "种子数",
    "steps: transfer": "步数：迁移",
    "scratch": "从头",
    "scratch+": "从头+",
    "scratch ÷ transfer (each seed)": "从头 ÷ 迁移（每个种子）",
    "return: transfer": "回报：迁移",
    "went back to scratch": "退回从头训练",
    "arm": "实验组",
    "alone": "单独",
    "value": "价值",
    "value-int8": "价值-int8",
    "policy-int8": "策略-int8",
    "÷ alone": "÷ 单独",
    "value network's return": "价值网络的回报",
    "agreement": "一致率",
    "value ÷ policy bytes": "价值 ÷ 策略字节数",
    "engine": "引擎",
    "decisions": "决策数",
    "allocations": "内存分配",
    "system calls": "系统调用",
    "locks": "加锁",
    "stack / static bytes": "栈 / 静态字节数",
}
"""Cell of a table → what it is in Chinese. Other cells (names, figures) stay."""

PARTS = {
    r"\]\(\.\./": "](../../",  # a Chinese page lies one folder deeper
    r"^From (\[.*\))\.$": r"取自 \1。",
    r"^not measured yet: ": "尚未测量：",
    r"^failed: ": "失败：",
    r" certified$": " 通过认证",
    r" REFUSED$": " 未通过认证",
    r"^(\S+-v\d) to (\d+)": r"\1 达到 \2",
    r", stepping envpool$": "，用 envpool 步进",
    r"^CleanRL's recipe, (\S+) steps$": r"CleanRL 的配置，\1 步",
    r"^in PyTorch ": "PyTorch 实现 ",
    r" \((\d+) of (\d+) seeds\)$": r"（\2 个种子中 \1 个达到）",
    r"^teacher, seed(\d)$": r"教师，种子 \1",
    r"^small, seed(\d)$": r"小策略，种子 \1",
    r"^small policy, seed(\d) \(certified, keeps (\S+)\)$": r"小策略，种子 \1（通过认证，保留 \2）",
    r"^small policy, seed(\d) \(not certified\)$": r"小策略，种子 \1（未通过认证）",
    r"^keeps (\S+) %: exactly$": r"保留 \1 %：精确",
    r"^keeps (\S+) %: (\S+) episodes$": r"保留 \1 %：\2 个回合",
    r"^policy, seed (\d)$": r"策略，种子 \1",
    r"^SB3 DQN, the maintainers' recipe, seed (\d)$": r"SB3 DQN，维护者的配置，种子 \1",
    r"^nimbleq, int8, seed (\d)$": r"nimbleq，int8，种子 \1",
    r"^(\S+) steps, (\S+) s$": r"\1 步，\2 s",
    r"^(\S+) of (\d+)$": r"\1/\2",
    r" \((\S+) to (\S+)\)$": r"（\1 到 \2）",
    r"^(\S+), always faster: (\S+) in highway-env, (\S+) in envpool, (\S+) standard errors apart\.$": (
        r"\1，始终加速：highway-env 中为 \2，envpool 中为 \3，相差 \4 个标准误。"
    ),
    r"^(.+): (\d+) of (\d+) policies are better than holding beyond chance, (\d+) are worse; "
    r"probability of overfitting \(.*\) (\S+)\.$": (
        r"\1：\3 个策略中，\2 个显著优于持有，\4 个显著劣于持有；过拟合概率"
        r"（在一半交易日上最好的种子，在另一半上处于或低于中位数）为 \5。"
    ),
    r"^search of (\d+)$": r"\1 次模拟的搜索",
    r"^search in Python of (\d+)$": r"\1 次模拟的搜索（Python）",
    r"^network \+ search of (\d+)$": r"网络 + \1 次模拟的搜索",
    r"^network from recorded games$": "只学过棋谱的网络",
    r"^network from recorded games \+ search of (\d+)$": r"只学过棋谱的网络 + \1 次模拟的搜索",
    r"^after (\S+) episodes$": r"\1 个回合之后",
    r"^The network: ": "网络：",
    r"^The network as int8: (\S+) B, (\S+) MACs, (\S+) µs a call from Python \((\S+); float32 (\S+) µs\); "
    r"certified at keep (\S+) against the pool: (\w+)\.$": (
        r"网络（int8）：\1 B，\2 次 MAC，从 Python 调用一次 \3 µs（\4；float32 \5 µs）；"
        r"在对手池上以保留 \6 认证：\7。"
    ),
    r"^Learnt from (\S+) games in (\S+) s of processor time; int8 (\S+) B \((\S+) B in float32\), (\S+) MACs and "
    r"(\S+) µs a play that is valued; certified to keep (\S+) of the float network's wins, after (\S+) "
    r"decks in both seats\.$": (
        r"学自 \1 局，处理器时间 \2 s；int8 \3 B（float32 为 \4 B），评估一种出牌 \5 次 MAC、\6 µs；"
        r"保留 float 网络胜率的 \7：通过认证，两种座位共用 \8 副牌。"
    ),
    r"^Learnt from (\S+) games in (\S+) s of processor time; int8 (\S+) B \((\S+) B in float32\), (\S+) MACs and "
    r"(\S+) µs a play that is valued; not certified to keep (\S+) of the float network's wins, after (\S+) "
    r"decks in both seats\.$": (
        r"学自 \1 局，处理器时间 \2 s；int8 \3 B（float32 为 \4 B），评估一种出牌 \5 次 MAC、\6 µs；"
        r"保留 float 网络胜率的 \7：未通过认证，两种座位共用 \8 副牌。"
    ),
    r"^policy, a test costs ": "策略，每项检查的代价为 ",
    r" \((\d+) claimed\)$": r"（声明 \1）",
    r" here$": "（本机）",
    r"^Ratios are medians over interleaved rounds, on one core\. ": "各比值是交替测量各轮的中位数，均在单核上测得。",
    r" Load (\S+) to (\S+)\.$": r" 负载 \1 到 \2。",
    r"^Not measured: ": "未测量：",
    r"^Published, not measured here:": "已发表、未在此测量的数据：",
    r"(: parity) not measured yet\.$": r"\1 尚未测量。",
}
"""Part of a cell, or of a line between tables, as a pattern → what it is in Chinese."""


def chinese_page(page: Path) -> Path:
    """``README.zh.md`` for ``README.md``, ``docs/zh/NAME.md`` for ``docs/NAME.md``."""
    if page.parent.name == "docs":
        return page.parent / "zh" / page.name
    return page.with_suffix(".zh.md")


def in_chinese(table: str) -> str:
    """What a benchmark writes into a page, with the words of `CELLS` and `PARTS` in Chinese."""
    return "\n".join(
        "|".join(_cell(cell) for cell in line.split("|")) if line.startswith("|") else _cell(line)
        for line in table.split("\n")
    )


def _cell(cell: str) -> str:
    english = cell.strip()
    if english in CELLS:
        return cell.replace(english, CELLS[english])
    chinese = english
    for part, word in PARTS.items():
        chinese = re.sub(part, word, chinese)
    return cell.replace(english, chinese)

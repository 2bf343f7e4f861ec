"""Verilog text of a folded circuit."""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

from nimbleq.deploy.targets.verilog.core import Core
from nimbleq.deploy.targets.verilog.folded import Stage, width
from nimbleq.deploy.targets.verilog.write import action_bits, module, ports, value_bits, value_port

_LAYER = Template("""// $what: $outputs sums of $inputs products, $lanes at once.
// Numbers come in one by one (LOAD); then every lane takes one input a clock (ADD); then the sums leave (SEND).
module $name (
    input wire clk,
    input wire rst,
    input wire in_valid,
    input wire signed [$read:0] in,
    output reg out_valid,
    output reg signed [$made:0] out
);
$tables
    localparam LOAD = 2'd0, ADD = 2'd1, SEND = 2'd2;
    reg [1:0] state;
    reg [$count:0] count;      // inputs taken, or sums sent, since the state began
    reg [$group:0] group;      // of outputs
    reg [$address:0] address;  // of weights
    reg [$inputs_held:0] x;    // the first in the lowest bits
    reg [$biases:0] sums;
    wire [$row:0] row = weights(address);
    wire [$biases:0] start = bias(state == LOAD ? 0 : group + 1);
    wire signed [$read:0] first = x[$read:0];
    wire signed [$held:0] sum = sums[$held:0];
$rounding
    integer i;
    always @(posedge clk) begin
        out_valid <= 1'b0;
        if (rst) begin
            state <= LOAD;
            count <= 0;
        end else if (state == LOAD) begin
            if (in_valid) begin
                x <= {in, x} >> $read_bits;
                count <= count == $last_input ? 0 : count + 1;
                if (count == $last_input) state <= ADD;
            end
            sums <= start;
            group <= 0;
            address <= 0;
        end else if (state == ADD) begin
            x <= {x[$read:0], x} >> $read_bits;
            for (i = 0; i < $lanes; i = i + 1)
                sums[i * $held_bits +: $held_bits] <= $$signed(sums[i * $held_bits +: $held_bits])
                    + $$signed(row[i * $weight_bits +: $weight_bits]) * first;
            address <= address + 1;
            count <= count == $last_input ? 0 : count + 1;
            if (count == $last_input) state <= SEND;
        end else begin
            out_valid <= 1'b1;
            out <= $result;
            sums <= sums >> $held_bits;
            count <= count + 1;
            if (group * $lanes + count == $last_output) begin
                count <= 0;
                state <= LOAD;
            end else if (count == $last_lane) begin
                sums <= start;
                group <= group + 1;
                count <= 0;
                state <= ADD;
            end
        end
    end
endmodule
""")

_ROUNDING = Template("""    wire [$pair:0] factors = rounding(group * $lanes + count);
    wire signed [$wide:0] scaled = sum * $$signed({1'b0, factors[$factor:0]}) + $$signed(factors[$pair:$factor_bits]);
    wire signed [$wide:0] level = scaled >>> $shift;
    wire signed [$made:0] result = level < $low ? $low : level > $high ? $high : level[$made:0];
""")

_CORE = Template("""
    localparam WAIT = 2'd0, FEED = 2'd1, LAYERS = 2'd2;
    reg [1:0] state;
    reg [$fed:0] fed;
    reg [$action:0] seen;
    reg [$obs:0] held;$mask_register
    reg done;
    reg [$action:0] best;
    reg signed [$value:0] largest;
    reg any;
    reg [$values:0] all;
    wire signed [$read:0] first = $first;
    wire feeding = state == FEED;
$links
    wire legal = $legal;
    always @(posedge clk) begin
        done <= 1'b0;
        if (rst) state <= WAIT;
        else if (state == WAIT) begin
            if (in_valid) begin
                held <= obs;$mask_load
                state <= FEED;
            end
            fed <= 0;
            seen <= 0;
            any <= 1'b0;
        end else if (state == FEED) begin
            held <= held >> $bits;
            fed <= fed + 1;
            if (fed == $last_input) state <= LAYERS;
        end else if (valid_$count) begin
            all <= $shifted_in;
            if (legal && (!any || value_$count > largest)) begin
                best <= seen;
                largest <= value_$count;
                any <= 1'b1;
            end
            seen <= seen + 1;
            if (seen == $last_action) begin
                done <= 1'b1;
                state <= WAIT;
            end
        end
    end
    assign in_ready = state == WAIT;
    assign out_valid = done;
    assign action = best;
    assign values = all;
""")


def folded_modules(core: Core, chain: Sequence[Stage], name: str) -> str:
    """``NAME_core`` and its layers."""
    return "\n".join([*(_layer(stage, f"{name}_layer{i}") for i, stage in enumerate(chain)), _core(core, chain, name)])


def _layer(stage: Stage, name: str) -> str:
    inputs, outputs, lanes, groups = len(stage.rows[0]), len(stage.rows), stage.lanes, stage.groups
    held, made, read = width(*stage.sums), width(*stage.made), width(*stage.source)
    weight = width(min(map(min, stage.rows)), max(map(max, stage.rows)))
    rows = [*stage.rows, *[(0,) * inputs] * (groups * lanes - outputs)]
    bias = [*stage.bias, *[0] * (groups * lanes - outputs)]
    parts = [range(g * lanes, (g + 1) * lanes) for g in range(groups)]
    words = [_joined([rows[o][j] for o in part], weight) for part in parts for j in range(inputs)]
    starts = [_joined([bias[o] for o in part], held) for part in parts]
    tables = [*_table("weights", words, weight * lanes), *_table("bias", starts, held * lanes)]
    rounding, result = "", "sum"
    if stage.rounding is not None:
        more, rounding = _rounding(stage, held, made)
        tables, result = tables + more, "result"
    return _LAYER.substitute(
        what=stage.name, name=name, inputs=inputs, outputs=outputs, lanes=lanes, last_input=inputs - 1,
        last_output=outputs - 1, last_lane=lanes - 1, read=read - 1, read_bits=read, inputs_held=inputs * read - 1,
        made=made - 1, held=held - 1,
        held_bits=held, weight_bits=weight, row=weight * lanes - 1, biases=held * lanes - 1, result=result,
        tables="\n".join(f"    {line}" for line in tables), rounding=rounding,
        count=max(inputs, lanes).bit_length() - 1, group=groups.bit_length() - 1, address=len(words).bit_length() - 1,
    )  # fmt: skip


def _rounding(stage: Stage, held: int, made: int) -> tuple[list[str], str]:
    """Table of the factors and offsets, and the lines that use it."""
    assert stage.rounding is not None
    factor = max(1, max(r.multiplier for r in stage.rounding).bit_length())
    offset = width(min(r.offset for r in stage.rounding), max(r.offset for r in stage.rounding))
    ends = [end * r.multiplier + r.offset for r in stage.rounding for end in stage.sums]
    wide = max(width(min(ends), max(ends)), held + factor + 1, made + 1)
    words = [r.multiplier | (r.offset & ((1 << offset) - 1)) << factor for r in stage.rounding]
    low, high = stage.made
    text = _ROUNDING.substitute(
        pair=factor + offset - 1, factor=factor - 1, factor_bits=factor, wide=wide - 1, made=made - 1,
        shift=stage.rounding[0].shift, lanes=stage.lanes, low=_signed(low), high=_signed(high),
    )  # fmt: skip
    return _table("rounding", words, factor + offset), text


def _core(core: Core, chain: Sequence[Stage], name: str) -> str:
    read, graph, wide = core.levels_type, core.policy, value_bits(core)
    bits, actions, chosen = read.qtype.bits, core.policy.actions, action_bits(core)
    first = f"held[{bits - 1}:0]" if read.qtype.low < 0 else f"{{1'b0, held[{bits - 1}:0]}}"
    links = []
    before = "feeding", "first"
    for i, stage in enumerate(chain, 1):
        links += [
            f"wire valid_{i};",
            f"wire signed [{width(*stage.made) - 1}:0] value_{i};",
            f"{name}_layer{i - 1} layer{i - 1} (.clk(clk), .rst(rst), .in_valid({before[0]}), .in({before[1]}),",
            f"    .out_valid(valid_{i}), .out(value_{i}));",
        ]
        before = f"valid_{i}", f"value_{i}"
    last = width(*chain[-1].made)
    extended = f"{{{wide - last}{{value_{len(chain)}[{last - 1}]}}}}, " if wide > last else ""
    older = f", all[{actions * wide - 1}:{wide}]" if actions > 1 else ""
    body = _CORE.substitute(
        obs=read.size * bits - 1, action=chosen - 1, value=last - 1, values=actions * wide - 1,
        read=width(int(read.qtype.low), int(read.qtype.high)) - 1, first=first, bits=bits, last_input=read.size - 1,
        last_action=actions - 1, count=len(chain), shifted_in=f"{{{extended}value_{len(chain)}{older}}}",
        fed=max(1, read.size.bit_length()) - 1,
        links="\n".join(f"    {line}" for line in links), legal="allowed[seen]" if graph.masked else "1'b1",
        mask_register=f"\n    reg [{actions - 1}:0] allowed;" if graph.masked else "",
        mask_load="\n                allowed <= mask;" if graph.masked else "",
    )  # fmt: skip
    return module(f"{name}_core", [*ports(core), value_port(core)], body.strip("\n").split("\n"))


def _joined(numbers: Sequence[int], bits: int) -> int:
    """Numbers of ``bits`` side by side, the first in the lowest."""
    return sum((number & ((1 << bits) - 1)) << (bits * i) for i, number in enumerate(numbers))


def _signed(value: int) -> str:
    return f"{'-' if value < 0 else ''}{abs(value).bit_length() + 1}'sd{abs(value)}"


def _table(what: str, words: Sequence[int], bits: int) -> list[str]:
    """A function that is a table of constants."""
    return [
        f"function [{bits - 1}:0] {what}(input integer at);",
        "    case (at)",
        *(f"        {at}: {what} = {bits}'h{word:x};" for at, word in enumerate(words)),
        f"        default: {what} = {bits}'h0;",
        "    endcase",
        "endfunction",
    ]

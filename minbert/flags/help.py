"""Help in three lengths: -h on two screens, --help-all with every flag, and docs/flags.md. Imports no torch."""

import argparse
import shutil
import textwrap

COMMON = {
    *("option", "model", "tasks", "init", "use_gpu", "device", "precision"),
    *("pairs", "pooling", "sts_head", "schedule", "batch_size", "epochs", "max_steps", "accumulate", "seed"),
    *("lr", "lr_schedule", "warmup", "clip", "weight_decay"),
    *("pcgrad", "smart", "r_drop", "tsa", "uda", "mean_teacher", "label_scheme"),
    *("data_dir", "limit", "labels_per_class", "train", "dev", "text", "label"),
    *("run_dir", "config", "resume", "patience", "keep_state"),
    *("evaluate", "predict", "input", "output", "export"),
}
TEXT = 29  # the column at which the text on a flag begins


class ShortHelp(argparse.Action):
    """-h: the flags that most runs need with the beginning of their help, and the names of all others."""

    def __init__(self, option_strings, dest, **words):
        super().__init__(option_strings, dest, default=argparse.SUPPRESS, nargs=0, **words)

    def __call__(self, parser, namespace, values, option_string=None):
        print(short(parser, shutil.get_terminal_size().columns))
        parser.exit()


def short(parser, columns):
    """The text of -h for a terminal so many columns wide."""
    width = min(max(columns, 80), 120) - 1
    lines = [
        f"usage: {parser.prog} [flags]    (--help-all: every flag in full)",
        *textwrap.wrap(parser.description, width),
    ]
    lines.append("--fine-tune-mode {last-linear-layer,full-model}: the later course's --option")
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        common = [action for action in actions if action.dest in COMMON]
        if not common or group.title == "options":
            continue
        lines += ["", f"{group.title}:"]
        for action in common:
            said = textwrap.shorten(help_of(parser, action), width - TEXT, placeholder=" ...")
            lines.append(f"  {invocation(action, brief=True):{TEXT - 3}} {said}")
        if more := " ".join(action.option_strings[-1] for action in actions if action not in common):
            lines += textwrap.wrap(f"more: {more}", width, initial_indent="  ", subsequent_indent="    ")
    return "\n".join([*lines, "", parser.epilog.rstrip()])


def page(parser):
    """All flags of a parser in Markdown, group by group."""
    lines = []
    for group in parser._action_groups:
        if group._group_actions:
            lines += ["", f"### {group.title}", ""]
            for action in group._group_actions:
                text = f"- `{invocation(action)}`: {help_of(parser, action)}"
                lines += textwrap.wrap(
                    text, 118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
                )
    return lines


def invocation(action, brief=False):
    """The flag as it is typed: `--lr X`, `--pairs {fused,concat}`; briefly, long choices are left out."""
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else "")
    value = " ".join(value) if isinstance(value, tuple) else value
    if action.nargs == "?":
        value = f"[{value}]"
    if brief and len(value) > TEXT - 6 - len(action.option_strings[-1]):
        value = "NAME"
    return f"{action.option_strings[-1]} {value}".rstrip()


def help_of(parser, action):
    return " ".join(parser._get_formatter()._expand_help(action).split())

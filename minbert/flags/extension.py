"""Going on past the end that a run was planned with: --resume RUN --epochs M, or --patience N where it stopped early.

What the epochs already trained did must be what they would have done in a run planned so from the start: then the
longer run comes to the same bits. Where they did something else, for the rate or a weight went by the share of the run
that was over, there is no such run, and this file says why. Imports no torch.
"""

from minbert.files import UserError

GROW = ("epochs", "patience")
# (whether the epochs done depend on those planned, why): {flag: value} of a run -> bool
PLANNED = (
    (lambda flags: flags["lr_schedule"] != "constant", "its learning rate has fallen by --lr_schedule {lr_schedule}"),
    (lambda flags: flags["schedule"] == "annealed", "its tasks' shares have changed by --schedule {schedule}"),
    (lambda flags: flags["tsa"], "its labelled examples were left out by --tsa {tsa}"),
    (lambda flags: flags["mean_teacher"] == "bregman", "its teacher's weights went by --mean_teacher {mean_teacher}"),
    (lambda flags: flags["mean_teacher"] and flags["ramp_up"], "its teacher's weight grew by --ramp_up {ramp_up}"),
    (lambda flags: flags["label_scheme"], "the plain models it learns from have trained as long"),
)


def extension(options, saved):
    """{flag: the value before} of what a namespace of flags changes of a run's planned end, {} where it changes
    nothing. saved: {flag: value} of that run. Raises UserError where going on would be no longer run of the same."""
    changed = {name: saved[name] for name in GROW if name in options.given and getattr(options, name) != saved[name]}
    if "epochs" in changed:
        asked = f"--epochs {options.epochs}: the run to resume was planned for {saved['epochs']}, and"
        if isinstance(saved["lr"], list):
            raise UserError(f"{asked} is a grid, whose best attempt is chosen; go on from it with --init RUN")
        if saved["max_steps"]:
            raise UserError(f"{asked} --max_steps {saved['max_steps']} cuts it; go on from its weights with --init RUN")
        for depends, why in PLANNED:
            if depends(saved):
                raise UserError(f"{asked} {why.format(**saved)} over these; go on from its weights with --init RUN")
    return changed

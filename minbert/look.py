"""Look into BERT: one forward pass over your text as a page, every tensor with the code that made it.

    python -m minbert.look "the cat sat"
    python -m minbert.look "a fine film" "a dull one" --run runs/NAME

In a notebook, the same as functions:

    from minbert.look import attention_map, open_model, trace

    model, tokenizer = open_model("minilm")
    seen = trace(model, tokenizer, "the cat sat")
    seen.part("softmax", layer=0, head=3)          # [T, T]
    attention_map(seen, layer=0, head=3)           # as a picture
"""

from minbert.script import begin, carry_out

if __name__ == "__main__":
    from minbert.flags.look import command_line

    COMMAND = begin(command_line)  # before torch is imported, so that --help and mistakes are answered at once

from pathlib import Path

from bert import BertModel
from minbert.files import UserError, sha256
from minbert.hub import find_checkpoint, resolve
from minbert.inside.changes import relative_changes
from minbert.inside.look_page import answer_card, write_look
from minbert.inside.trace import trace
from minbert.report import page
from minbert.text.tokenization import Tokenizer
from minbert.training.answers import heads_by_kind
from minbert.training.run_folder import RUN, saved_record
from multitask_classifier import load


def look(parsed):
    """The command: write the page, and say where it is."""
    if not page.can_render():
        raise UserError(f"{parsed.out}: {page.MISSING}")
    texts = [tuple(parsed.text)] if parsed.pair else parsed.text
    names = [" | ".join(text) if parsed.pair else text for text in texts]
    if parsed.run is None:
        found = resolve(parsed.model)
        seen = trace(*_opened(found), *texts)
        write_look(parsed.out, seen, found.name, names, [f"Weights: {found.source}."])
    else:
        _look_at_run(Path(parsed.run), parsed, texts, names)
    print(f"look: {parsed.out}")


def open_model(name=None):
    """(BertModel, Tokenizer) of a checkpoint: a folder, a hub id or minilm."""
    return _opened(resolve(name))


def _opened(found):
    model = BertModel.from_pretrained(found.folder)
    return model, Tokenizer.from_folder(found.folder, model.config.vocab_size)


def open_run(folder):
    """The best model of a finished run (answers.SavedModel), with attention written out, so that it can be watched."""
    saved = load(folder)
    for layer in saved.model.bert.bert_layers:
        layer.self_attention.attention = layer.self_attention.plain_attention
    return saved


def _look_at_run(folder, parsed, texts, names):
    """The page of a run: its heads' answers, and beside it the weights that it began with, where they are at hand."""
    saved = open_run(folder)
    if parsed.pair and not saved.model.fused:
        raise UserError(f"{folder}: this run reads the two texts of a pair apart; leave --pair out")
    seen = trace(saved.model, saved.tokenizer, *texts)
    answers = predictions(saved, parsed.text, parsed.pair)
    before, told = _began_with(folder, parsed.model)
    if before is None:
        cards = [answer_card(task, asked, after) for task, asked, after in answers]
        write_look(parsed.out, seen, str(folder), names, [told], answers=cards)
        return
    changes = relative_changes(before, saved.model.bert)
    saved.model.bert = before  # under the run's heads
    earlier = predictions(saved, parsed.text, parsed.pair)
    both = zip(answers, earlier, strict=True)
    cards = [answer_card(task, asked, after, then) for (task, asked, after), (_, _, then) in both]
    watched = trace(before, saved.tokenizer, *texts)
    write_look(parsed.out, seen, str(folder), names, [told], watched, cards, changes)


def predictions(saved, texts, pair_only=False):
    """[(task, the texts asked about, what its head says)] of one or two texts: by heads on single texts of each, and by
    heads on pairs of the two together."""
    heads = heads_by_kind(saved.model)
    asked = [] if pair_only else [(text,) for text in texts] if heads[1] else []
    if len(texts) == 2 and heads[2]:
        asked.append(tuple(texts))
    said = [(one, saved.predict([one])) for one in asked]
    return [(task, one, answer.of(0)) for one, answers in said for task, answer in answers.items()]


def _began_with(folder, named):
    """(the BertModel that a run's training began with, a sentence on it), or (None, why it is not here). Its record
    says which; a record may be anybody's, so nothing is downloaded on its word, and its fingerprint must fit."""
    record = saved_record(folder / RUN)["model"]
    try:
        found = find_checkpoint(named) if named else find_checkpoint(record["name"], online=False)
        if sha256(found.weights) != record["sha256"]:
            raise UserError(f"{found.folder} holds other weights than those that the run began with")
    except UserError as error:
        if named:
            raise
        return None, f"Nothing is compared with the weights it began with: {error}."
    return BertModel.from_pretrained(found.folder, attention="plain"), f"It began with {found.source}."


def attention_map(seen, layer, head, text=0, axes=None):
    """Draw the attention of a head, layers and heads from 0, as a picture: rows look at columns. `seen`: a Trace.
    Returns matplotlib's Axes. Raises UserError without matplotlib."""
    try:
        from matplotlib import pyplot  # an extra
    except ImportError:
        raise UserError("a picture needs the package matplotlib (pip install matplotlib)") from None

    tokens = seen.tokens(text)
    attention = seen.part("softmax", layer, text, head)[:, : len(tokens)]  # [T, T]
    if axes is None:
        size = 1.6 + 0.38 * len(tokens)
        _, axes = pyplot.subplots(figsize=(size, size), layout="constrained")
    axes.imshow(attention.numpy(), vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(len(tokens)), tokens, rotation=90)
    axes.set_yticks(range(len(tokens)), tokens)
    axes.set_title(f"bert_layers[{layer}], head {head}")
    return axes


if __name__ == "__main__":
    raise SystemExit(carry_out(look, COMMAND, lower="choose a smaller --model"))

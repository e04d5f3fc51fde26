"""Masked-LM training: the loss of a step, the perplexity after each epoch, and a run from its first line to its last.

The loop, the optimizer and the checkpoints are those of minbert/training. Settled here, where the source is silent, or
would spoil the trunk that it begins with:
- The learning rate is 5e-5 (Kalicki: 1e-3), linear with a warm-up over a tenth of the updates.
- Each sentence, of pairs too, is a sequence of its own; one that comes twice (by its tokens) counts once, so that no
  held-out text is among those trained on. The result is the last epoch, where the learning rate has come down.
"""

import math

import numpy as np
import torch

from bert import BertForMaskedLM
from minbert import hub, processes
from minbert.files import UserError, write_json
from minbert.flags import checks as command_line
from minbert.layers.precision import autocast, precision_told
from minbert.masked_lm import large_text
from minbert.masked_lm.large_text import LargePlan
from minbert.masked_lm.masking import exam_of, masked_batch, part_of, perplexity
from minbert.masked_lm.text import encode, hold_out, read_text
from minbert.methods.objective import Loss
from minbert.text.stored import StoredSequences
from minbert.text.tokenization import copy_tokenizer
from minbert.training.checkpoint import drop_state
from minbert.training.data import fit_to_checkpoint
from minbert.training.loop import Loop
from minbert.training.plan import Plan
from minbert.training.run_folder import RUN, check_device, check_unchanged, describe_run, is_over, take_over_threads
from minbert.training.screen import say
from minbert.training.step_log import log_of
from minbert.training.trainer import make_optimizer

TEXT = "text"  # what the one "task" is called


class MaskedLMTrainer:
    """Trains `model` (BertForMaskedLM) on `sequences`, less what is held out, keeping its files in `folder`. options:
    flags.parser.Options; identity: as in Loop. It is the exam of its own loop: the perplexity of the held-out text."""

    def __init__(self, model, tokenizer, sequences, options, folder, identity=""):
        self.model, self.tokenizer, self.folder, self.seed = model, tokenizer, folder, options.schedule.seed
        self.device, self.precision = model.decoder_bias.device, options.model.precision
        large = isinstance(sequences, StoredSequences)
        self.text, held_out = large_text.hold_out(sequences) if large else hold_out(sequences)
        self.exam = exam_of(held_out, tokenizer, self.device)
        if not any(len(labels) for _, _, labels in self.exam):
            raise UserError(
                f"the held-out text ({len(held_out)} of all) is too short to hide a token in: give more text"
            )
        self.loop = Loop(
            model=model,
            optimizer=make_optimizer(model, options.optimisation),
            settings=options.optimisation,
            plan=(LargePlan if large else Plan)(options.schedule, {TEXT: len(self.text)}),
            backward=self._backward,
            exam=self,
            folder=folder,
            minutes=options.run.checkpoint_minutes,
            log=log_of(folder, options.run.log_every),
            examine_first=True,
            identity=identity,
            status=lambda: f", held-out perplexity {self.loop.progress.history[-1]['perplexity']:.2f}",
        )

    def _backward(self, step):
        """The gradient of a step's loss. Returns [Loss]."""
        ((_, index),) = step
        loss = self.loss_of(self.loop.plan.batches[TEXT](self.loop.progress.epoch, index))
        loss.total.backward()
        return [loss.whole(self.loop.processes)]

    def loss_of(self, rows):
        """The mean over the chosen tokens of these rows, of which a short batch may by chance have none."""
        random = np.random.default_rng([self.seed, self.loop.progress.update])  # a resumed run needs no memory of it
        whole = masked_batch(self.text, rows, self.tokenizer, random, self.device)
        tokens, chosen, _ = whole
        losses = self._losses(*part_of(whole, self.loop.processes))
        return Loss({(TEXT, ""): losses.sum() / max(len(chosen), 1)}, {}, len(tokens.ids))

    def _losses(self, tokens, chosen, labels):
        with autocast(self.device, self.precision):
            return self.model.losses(tokens, chosen, labels)

    # --------------------------------------------------------------------------------- the exam after each epoch

    @torch.no_grad()
    def perplexity(self):
        """That of the held-out text, of which each process scores some batches."""
        self.model.eval()
        sizes = [len(labels) for _, _, labels in self.exam]
        losses = self.loop.processes.map(lambda batch: self._losses(*batch), self.exam, sizes)
        by_batch = iter(losses.split(sizes))
        return perplexity(lambda *batch: next(by_batch), self.exam)

    def score(self, loop):
        measured = self.perplexity()
        if not math.isfinite(measured):
            loop.diverged(f"the held-out perplexity is {measured}")
        terms, _ = loop.record.means([TEXT])
        return {"loss": terms.get(TEXT), "perplexity": measured}

    def keep(self, loop, record):
        """Nothing: the result is the last epoch."""

    def say(self, loop, record):
        loss = "" if record["loss"] is None else f"loss {record['loss']:.3f}, "
        say(f"epoch {record['epoch']}: {loss}held-out perplexity {record['perplexity']:.2f}")

    # -------------------------------------------------------------------------------------------------- the result

    def finish(self, found):
        """Write the result: the checkpoint folder, and last the scores, which say that the run is finished."""
        progress, result = self.loop.progress, self.folder / "bert"
        self.model.save_pretrained(result)
        copy_tokenizer(found.folder, result)
        before, after = (progress.history[place]["perplexity"] for place in (0, -1))
        scores = {
            "perplexity_before": before,
            "perplexity": after,
            "texts": len(self.text),
            "epochs": progress.epoch,
            "updates": progress.update,
            "tokens": progress.tokens,
            "train_seconds": round(progress.train_seconds, 2),
            "eval_seconds": round(progress.eval_seconds, 2),
        }
        write_json(self.folder / "scores.json", scores)
        print(f"held-out perplexity {before:.2f} before, {after:.2f} after; --model {result}")


def pretrain(options, text, flags, folder, before):
    """A run in `folder`, from its first line to its last file. text: (its files, or None for that of the tasks, and the
    columns in them); flags: as config.json records them; before: the config.json of the run to resume, or None."""
    check_device(options.model, "--use_gpu:")
    if before:
        take_over_threads(before)
    # 1. the checkpoint and the text
    found = hub.resolve(options.model.model)
    print(f"model: {found.name}, {found.source}\n{precision_told(options.model.runs_on, options.model.precision)}")
    tokenizer, max_length = fit_to_checkpoint(found, options.model.max_length, "max_length" in options.given, False)
    if options.data.token_cache:
        sequences, data, notes = large_text.open_text(*text, options.data.token_cache, tokenizer, max_length)
    else:
        data, notes = read_text(*text, options.tasks, options.data)
        sequences = None
    print("\n".join(notes))
    config = describe_run({**flags, "max_length": max_length}, options.model, found, data, notes)
    if before:
        check_unchanged(folder, before, config)
        if is_over(folder):
            print(f"{folder} is finished, and has no state.pt to go on from: what it came to stays as it is")
            return
    # 2. the model, the head of which may be new
    torch.manual_seed(options.schedule.seed)
    model = BertForMaskedLM.from_pretrained(found.folder).to(options.model.runs_on)
    sequences, identity = sequences or encode(data, tokenizer, max_length), command_line.digest(config["flags"])
    trainer = MaskedLMTrainer(model, tokenizer, sequences, options, folder, identity)
    # 3. the run
    processes.here().meet()  # all have seen what is in the folder
    folder.mkdir(parents=True, exist_ok=True)
    if not before:
        write_json(folder / RUN, config, new=True)
    trainer.loop.resume()
    head = "a new head" if model.head_is_new else "the checkpoint's own head"
    updates = trainer.loop.plan.updates
    print(f"run: {folder}\nplan: {len(trainer.text):,} different texts, {head}, {updates:,} updates")
    trainer.loop.run()
    if not processes.here().first:
        return
    trainer.finish(found)
    drop_state(folder, options.run)

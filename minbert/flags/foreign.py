"""Flags that a command does not have: what they are called here, for names that people bring from other programs, and
otherwise the nearest of ours. Imports no torch."""

import difflib
import re

# name elsewhere (transformers, the course's later starters, other trainers) -> what to say here
ELSEWHERE = {
    "learning_rate": "--lr",
    "num_train_epochs": "--epochs",
    "num_epochs": "--epochs",
    "n_epochs": "--epochs",
    "output_dir": "--run_dir",
    "save_dir": "--run_dir",
    "logging_dir": "--tensorboard, which writes into the run's folder",
    "overwrite_output_dir": "another --run_dir: a run never overwrites one",
    "fp16": "--precision bf16",
    "bf16": "--precision bf16",
    "amp": "--precision bf16",
    "per_device_train_batch_size": "--batch_size",
    "per_gpu_train_batch_size": "--batch_size",
    "train_batch_size": "--batch_size",
    "per_device_eval_batch_size": "no flag: scoring makes batches by the length of texts (--batch_size: training)",
    "eval_batch_size": "no flag: scoring makes batches by the length of texts (--batch_size: training)",
    "gradient_accumulation_steps": "--accumulate",
    "accumulation_steps": "--accumulate",
    "max_seq_length": "--max_length",
    "max_seq_len": "--max_length",
    "max_source_length": "--max_length",
    "model_name_or_path": "--model",
    "model_name": "--model",
    "pretrained_model": "--model",
    "bert_model": "--model",
    "tokenizer_name": "--model, whose tokenizer it is",
    "cache_dir": "the environment variable HF_HOME (--model: which checkpoint)",
    "warmup_ratio": "--warmup",
    "warmup_proportion": "--warmup",
    "warmup_steps": "--warmup SHARE, a share of all updates, as 0.1",
    "num_warmup_steps": "--warmup SHARE, a share of all updates, as 0.1",
    "lr_scheduler_type": "--lr_schedule",
    "max_grad_norm": "--clip",
    "gradient_clip_val": "--clip",
    "max_train_samples": "--limit TASK=N",
    "max_eval_samples": "--dev_limit TASK=N",
    "task_name": "--tasks",
    "do_train": "no flag: a run trains (--option finetune: everything), scores and predicts",
    "do_eval": "no flag: a run is scored after each epoch; --evaluate RUN scores a saved one",
    "do_predict": "no flag: a run predicts its test sets (--skip_test: it does not); --predict RUN answers texts",
    "resume_from_checkpoint": "--resume RUN",
    "load_best_model_at_end": "no flag: the best epoch is always kept (--patience: when to stop)",
    "early_stopping_patience": "--patience",
    "save_steps": "--checkpoint_minutes",
    "save_strategy": "--checkpoint_minutes (the state is saved after each epoch too)",
    "report_to": "--tensorboard",
    "no_cuda": "--device cpu, which is the default",
    "cuda": "--use_gpu",
    "gpu": "--use_gpu",
    "use_cuda": "--use_gpu",
    "freeze_bert": "--option pretrain",
    "dropout": "--hidden_dropout_prob",
    "classifier_dropout": "--hidden_dropout_prob",
    "random_seed": "--seed",
    "torch_compile": "--compile",
    "steps": "--max_steps",
    **{f"quora_{split}": f"--para_{split}" for split in ("train", "dev", "test", "dev_out", "test_out")},
}


def answer(word, known):
    """What to say of an argument that a command does not have. known: its own, as ["--lr", ...]."""
    typed = word.partition("=")[0]
    name = typed.lstrip("-").replace("-", "_")
    here = ELSEWHERE.get(name, "")
    if here and not {*re.findall(r"--\w+", here)} - {*known}:
        return f"{typed}: here that is {here}"
    near = difflib.get_close_matches(f"--{name}", known, n=1, cutoff=0.7) if typed.startswith("-") else []
    hint = f"is it {near[0]}? --help" if near else "--help"
    return f"unrecognized argument {typed}: {hint} lists the flags"

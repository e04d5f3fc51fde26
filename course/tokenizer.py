"""What the courses' files import from `tokenizer`: BertTokenizer as they call it, over our own.

tokenizer = BertTokenizer.from_pretrained("bert-base-uncased")
tokenizer(["A fine film."], return_tensors="pt", padding=True, truncation=True)["input_ids"]       # [1, 6]
"""

import tokenizers

from minbert import hub
from minbert.text.course import let_torch_load_settings, padded
from minbert.text.tokenization import Tokenizer


class BertTokenizer:
    """A checkpoint's WordPiece tokenizer."""

    def __init__(self, tokenizer):
        let_torch_load_settings()  # whoever tokenizes by this saves in the courses' way
        self.tokenizer, self.pad_token_id = tokenizer, tokenizer.pad
        self._rust = tokenizers.Tokenizer.from_str(tokenizer.to_json())

    @classmethod
    def from_pretrained(cls, name, **ignored):
        """That of a checkpoint: a folder, a hub id, or minilm. Raises UserError."""
        return cls(Tokenizer.from_folder(hub.find_checkpoint(name).folder))

    def __call__(self, texts, pairs=None, max_length=512, **ignored):
        """{"input_ids", "token_type_ids", "attention_mask"}, int64 [B, T], of B texts, alone or each with the second
        text of a pair. They are padded, and cut to max_length tokens, as the courses always ask for."""
        texts = [texts] if isinstance(texts, str) else texts
        rows = list(zip(texts, *([] if pairs is None else [pairs]), strict=True))
        ids, types, mask = padded(self.tokenizer.encode(rows, max_length), self.pad_token_id)
        return {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}

    def tokenize(self, text):
        """The tokens of a text as words, without [CLS] and [SEP] but for those in the text."""
        return self._rust.encode(text, add_special_tokens=False).tokens

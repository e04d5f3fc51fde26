"""How similar six sentences are, to a pretrained BERT that runs through your model."""

import sys

import torch
import torch.nn.functional as F

from bert import BertModel
from minbert.files import UserError
from minbert.hub import resolve
from minbert.text.tokenization import Tokenizer

SENTENCES = [
    "the soup needs a little more salt",
    "we baked bread with butter and cheese",
    "dinner was delicious",
    "it will rain all day tomorrow",
    "a cold wind blows from the north",
    "the storm brought heavy snow",
]


@torch.no_grad()
def main():
    checkpoint = resolve("minilm").folder
    model, tokenizer = BertModel.from_pretrained(checkpoint), Tokenizer.from_folder(checkpoint)
    vectors = []
    for sentence in SENTENCES:
        ids = torch.from_numpy(tokenizer.encode([(sentence,)], max_length=32).ids).long()[None]  # [1, T]
        vectors.append(model(ids)["last_hidden_state"][0].mean(0))
    vectors = F.normalize(torch.stack(vectors), dim=-1)  # [6, H]
    print(" " * 43 + "  ".join(f"({number})" for number in range(1, 7)))
    for number, (sentence, row) in enumerate(zip(SENTENCES, vectors @ vectors.T, strict=True), 1):
        print(f"({number}) {sentence:38}" + " ".join(f"{float(value):5.2f}" for value in row))


if __name__ == "__main__":
    try:
        main()
    except (NotImplementedError, UserError) as error:
        sys.exit(str(error))

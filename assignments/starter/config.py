"""The sizes and rates of a BERT, under the names that the course's files read."""


class PretrainedConfig:
    """Whatever is given, as attributes."""

    def __init__(self, **values):
        self.name_or_path = values.pop("name_or_path", "")
        for name, value in values.items():
            setattr(self, name, value)


class BertConfig(PretrainedConfig):
    """Defaults: bert-base-uncased."""

    def __init__(self, **values):
        defaults = {
            "vocab_size": 30522,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
            "initializer_range": 0.02,
            "layer_norm_eps": 1e-12,
            "pad_token_id": 0,
        }
        super().__init__(**{**defaults, **values})

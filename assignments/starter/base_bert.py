"""What the course's BertModel is built on: its initial weights, and its dtype."""

from torch import nn

from utils import get_parameter_dtype


class BertPreTrainedModel(nn.Module):
    """A model with a `config`, whose weights are normal, biases 0, and LayerNorms 1 and 0 at first."""

    def __init__(self, config, *inputs, **kwargs):
        super().__init__()
        self.config = config
        self.name_or_path = config.name_or_path

    def init_weights(self):
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)

    @property
    def dtype(self):
        return get_parameter_dtype(self)

"""What the courses' files import from `config`: the sizes of a BERT, as ours reads them."""

from base_bert import BertConfig

PretrainedConfig = BertConfig
__all__ = ["BertConfig", "PretrainedConfig"]

"""A language model that is as small as KerasHub makes one."""

from typing import Any

import keras
import keras_hub


def make_gemma(vocabulary_size: int, hidden_dim: int = 8, intermediate_dim: int = 16, **options: Any) -> keras.Model:
    """Makes Gemma's backbone with one layer."""
    return keras_hub.models.GemmaBackbone(
        vocabulary_size=vocabulary_size,
        num_layers=1,
        num_query_heads=2,
        num_key_value_heads=1,
        hidden_dim=hidden_dim,
        intermediate_dim=intermediate_dim,
        head_dim=4,
        **options,
    )

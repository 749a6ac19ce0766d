"""Recurrent layers, attention and embeddings."""

import keras
from keras import layers

from .case import BATCH, Data, case, classes, compiled, numbers, regression


@case(regression(4, 3))
def lstm() -> keras.Model:
    recurrent = layers.LSTM(3, dropout=0.2, recurrent_dropout=0.1)
    return compiled(keras.Sequential([keras.Input((4, 3)), recurrent, layers.Dense(2)]))


@case(regression(4, 3))
def stateful_gru() -> keras.Model:
    recurrent = layers.GRU(3, stateful=True)
    return compiled(keras.Sequential([keras.Input(batch_shape=(BATCH, 4, 3)), recurrent, layers.Dense(2)]))


@case(regression(4, 3))
def stateful_bidirectional_lstm() -> keras.Model:
    recurrent = layers.Bidirectional(layers.LSTM(3, stateful=True))
    return compiled(keras.Sequential([keras.Input(batch_shape=(BATCH, 4, 3)), recurrent, layers.Dense(2)]))


@case(regression(4, 3), in_graphs=True)
def bidirectional() -> keras.Model:
    forward = layers.LSTM(3, return_sequences=True, dropout=0.1)
    backward = layers.GRU(3, return_sequences=True, go_backwards=True)
    recurrent = layers.Bidirectional(forward, backward_layer=backward)
    return compiled(keras.Sequential([keras.Input((4, 3)), recurrent, layers.Flatten(), layers.Dense(2)]))


@case(regression(3, 6, 6, 1))
def convolutional_lstm() -> keras.Model:
    recurrent = layers.ConvLSTM2D(2, 3, dropout=0.1, recurrent_dropout=0.1)
    return compiled(keras.Sequential([keras.Input((3, 6, 6, 1)), recurrent, layers.Flatten(), layers.Dense(2)]))


@case(regression(4, 3), in_graphs=True)
def stacked_cells() -> keras.Model:
    cells = [layers.LSTMCell(3, dropout=0.2), layers.GRUCell(2), layers.SimpleRNNCell(2)]
    return compiled(keras.Sequential([keras.Input((4, 3)), layers.RNN(cells), layers.Dense(2)]))


@case(lambda: Data(numbers(4, 3), numbers(4, 2, seed=1)))
def time_distributed() -> keras.Model:
    inner = keras.Sequential([layers.Dense(3, "relu"), layers.Dropout(0.1), layers.Dense(2)])
    return compiled(keras.Sequential([keras.Input((4, 3)), layers.TimeDistributed(inner)]))


@case(lambda: Data(classes(7, 5), numbers(2, seed=1)))
def transformer_block() -> keras.Model:
    inputs = keras.Input((5,), dtype="int32")
    tokens = layers.Embedding(7, 4)(inputs)
    attention = layers.MultiHeadAttention(2, 2, dropout=0.1)(tokens, tokens, use_causal_mask=True)
    hidden = layers.LayerNormalization()(tokens + attention)
    wide = layers.Dropout(0.1)(layers.Dense(4)(layers.Dense(8, activation="gelu")(hidden)))
    hidden = layers.RMSNormalization()(hidden + wide)
    hidden = layers.GroupQueryAttention(2, 2, 1, dropout=0.1)(hidden, hidden)
    return compiled(keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(hidden))))


@case(lambda: Data(classes(7, 5), numbers(2, seed=1)))
def masked_embedding() -> keras.Model:
    return compiled(
        keras.Sequential(
            [keras.Input((5,), dtype="int32"), layers.Embedding(7, 4, mask_zero=True), layers.GRU(3), layers.Dense(2)]
        )
    )

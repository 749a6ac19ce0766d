"""What Keras's own reader cannot do, with any file: with ours, and with the one that Keras itself writes."""

# Case -> the error of Keras's reader for an HDF5 file with compile=True. Lamb is missing from the list in which it
# looks optimizers up.
CANNOT_COMPILE_FROM_HDF5 = {
    "Lamb_plain": "Could not interpret optimizer identifier: lamb",
    "Lamb_with_everything": "Could not interpret optimizer identifier: lamb",
}

# Case -> the same, also with compile=False. The weights of a layer that was quantized have another order than those of
# a layer that is built quantized, and HDF5 files go by the order.
CANNOT_OPEN_HDF5 = {
    "quantized_to_float8": "Shape mismatch in layer",
}

# Case -> why a model that Keras loads predicts something else than the model that was saved.
PREDICTS_SOMETHING_ELSE = {
    "stateful_gru": "the state of a stateful RNN is not saved",
    "stateful_bidirectional_lstm": "the state of a stateful RNN is not saved",
    "quantized_with_low_rank_adaptation": "the adaptation is folded into the kernel, which is quantized again",
}

# Case -> why Keras's reader does not go on exactly, although the model has no random state.
CANNOT_GO_ON = {
    "partly_frozen_after_training": "Keras builds the optimizer for the variables that are trainable when it loads",
    "frozen_variables_in_a_trained_layer": "the trainable flag of a single variable is not saved",
    "low_rank_adaptation": "the adaptation is folded into the kernel, and starts anew",
    **PREDICTS_SOMETHING_ELSE,
}

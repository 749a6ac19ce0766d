"""How training goes on, in any runtime."""

BATCH = 8

# Way -> rows to train with, before the model is saved and after. TensorFlow may round otherwise where it knows the size
# of the batch, and Keras knows it where all batches have the same.
WAYS = {"full_batches": 4 * BATCH, "a_partial_batch": 4 * BATCH + 3}

"""The verification: what was written is loaded in a fresh process and compared with the model that it was made from."""

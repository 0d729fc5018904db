"""The same as `textassay train-deepspeed`."""

from textassay.commands.train_deepspeed import start

if __name__ == "__main__":
    start()

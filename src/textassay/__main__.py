"""`python -m textassay`: the command `textassay`."""

from textassay.commands.group import start

if __name__ == "__main__":
    start()

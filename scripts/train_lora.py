"""The same as `textassay train-lora`."""

from textassay.commands.train_lora import main

if __name__ == "__main__":
    main()

"""The default learning rate of every method: what learns a few hundred rows with MiniLM.

docs/results.md ("Defaults") says which were measured, and what they reached; the others have that
of methods that train as many numbers in a like way. Methods that a classifier on MiniLM cannot use
(they need a decoder, tasks, tokens or adapters) have LoRA's.
"""

LORA_RATE = 2e-3
METHODS_BY_RATE: dict[float, tuple[str, ...]] = {
    5e-5: ("full",),
    1e-4: ("osf",),
    LORA_RATE: (
        "adalora", "adaption_prompt", "boft", "bottleneck", "cartridge", "cpt", "deft", "delora",
        "frod", "glora", "gralora", "hira", "hra", "lily", "loha", "lora", "miss",
        "multitask_prompt_tuning", "oft", "p_tuning", "peanut", "poly", "randlora", "shadow",
        "shira", "trainable_tokens", "xlora",
    ),
    1e-2: (
        "adamss", "beft", "c3a", "fourierft", "ia3", "ln_tuning", "lokr", "prefix_tuning",
        "psoft", "pvera", "road", "supertuning", "tinylora", "unilora", "vblora",
        "vera", "waveft",
    ),
    5e-2: ("prompt_tuning",),
}  # fmt: skip
DEFAULT_RATES = {name: rate for rate, names in METHODS_BY_RATE.items() for name in names}

"""What people write first: FastAPI around a transformers pipeline, one call a request.

python benchmarks/naive_server.py MODEL_DIR PORT [def|async]

`def` lets FastAPI call it in its pool of threads, `async` one after another.
"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline


class Body(BaseModel):
    """One text."""

    inputs: str


def main(folder: str, port: str, style: str = "def") -> None:
    """Serve until killed."""
    app = FastAPI()
    classify = pipeline(
        "text-classification", model=folder, tokenizer=folder, top_k=None, device="cpu"
    )

    def predict(body: Body) -> list:
        return classify(body.inputs, truncation=True)

    async def predict_in_turn(body: Body) -> list:
        return classify(body.inputs, truncation=True)

    app.post("/predict")(predict if style == "def" else predict_in_turn)
    uvicorn.run(app, port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""python -m minbert.sanity: check this package's BertModel and AdamW."""

import sys

from minbert import bert, optimizer, sanity
from minbert.command_line import Parser, run_program
from minbert.errors import InputError
from minbert.hub import find_model
from minbert.sanity.verdict import Divergence, describe_exception


def check_bert(name: str | None) -> Divergence | None:
    """Check BertModel with the tiny weights, or with those of `name`. Raises InputError if `name` is not a model."""
    folder = find_model(name) if name else None
    try:
        model = bert.BertModel.from_pretrained(folder) if folder else sanity.tiny()
    except Exception as error:
        if folder and isinstance(error, InputError):
            raise
        verdict = f"BertModel cannot be built: {describe_exception(error)}"
        print(verdict)
        return Divergence("building the model", None, verdict)
    return sanity.check_model(model, None if folder else sanity.tiny_reference())


def main(argv: list[str]) -> int:
    parser = Parser("python -m minbert.sanity", description=sanity.__doc__)
    parser.add_argument("--model", help="folder with config.json and model.safetensors, or a hub name")
    return run_program("minbert.sanity", lambda: check(parser.parse_args(argv).model))


def check(model: str | None) -> int:
    """Check the model and the optimizer, and print what differs. Returns the exit status."""
    if any([check_bert(model), sanity.check_optimizer(optimizer.AdamW)]):
        return 1
    print("All steps are right.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

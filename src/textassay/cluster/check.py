"""Whether all nodes have what a job needs: python -m textassay.cluster.check [JOB.yaml] [flags]

A step of its own, before that of `textassay.cluster.train`: a node that lacks something leaves, and
the others would wait for it to meet them.
"""

import os

from textassay.cluster.needs import refuse_unless_done
from textassay.cluster.place import Place
from textassay.cluster.train import part_of
from textassay.config.flags import batch_options


@batch_options
def main(runs, overrides):  # type: ignore[no-untyped-def]
    """Exit code 2 where nodes, GPU, packages, model or data are not as JOB_FILE wants them."""
    place = Place.in_step(os.environ)
    refuse_unless_done(part_of(runs, place)[1], place.nodes)


if __name__ == "__main__":
    main()

"""Whether all nodes have what a job needs: python -m textassay.cluster.check [JOB.yaml] [flags]

A step of its own, before that of `textassay.cluster.train`: a node that lacks something leaves, and
the others would wait for it to meet them.
"""

import os

from textassay.cluster.needs import refuse_what_is_missing
from textassay.cluster.place import Place
from textassay.cluster.train import is_done, only_job
from textassay.config.flags import batch_options


@batch_options
def main(runs, overrides):  # type: ignore[no-untyped-def]
    """Exit code 2 where nodes, GPU, packages, model or data are not as JOB_FILE wants them."""
    place = Place.in_step(os.environ)
    mine = place.share_of(only_job(runs)[1])
    if not all(is_done(run, place) for run in mine):
        refuse_what_is_missing(mine[0].job, place.nodes)


if __name__ == "__main__":
    main()

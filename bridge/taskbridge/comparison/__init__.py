"""
The dual-run report: what was dispatched, set against what either side did with it.

    numbering   which numbers of a sequence were seen
    trace       all that was seen of one dispatch
    fold        batches of observations -> traces
    classes     a trace -> its class
    durations   times -> quantiles
    verdict     counts -> verdict, sentence, next command
    document    everything -> the report's JSON document
"""

from taskbridge.comparison.document import Question, build, to_json
from taskbridge.comparison.fold import Fold

__all__ = ["Fold", "Question", "build", "to_json"]

"""A peer's side of the conversation: a line of JSON in, a line of JSON out.

{"call": "load", "case": "training_step", "file": "inputs.safetensors"}
{"call": "results", "case": "training_step", "topK": 2, "file": "outputs.safetensors"}   what it computes
{"call": "run", "case": "training_step", "topK": 2}                                      {"seconds": 0.05}

The first line out describes what runs here.
"""

import json
import os
import sys

from tensor_file import read_tensors, write_tensors


class Peer:
    """Holds cases by name. A case runs, and gives its results by name."""

    def __init__(self, make_case):
        self.make_case = make_case  # (name, tensors, metadata) -> case
        self.cases = {}

    def load(self, case, file):
        self.cases[case] = self.make_case(case, *read_tensors(file))
        return {}

    def results(self, case, topK, file):
        write_tensors(file, self.cases[case].results(topK))
        return {}

    def recover(self):
        """Called after a failed request."""


def serve(description, peer):
    """Answers each request by a call of the method that it names."""

    # Whatever else prints, compilers for one, must not come between the replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(message):
        print(json.dumps(message), file=replies, flush=True)

    reply(description)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply(getattr(peer, request.pop("call"))(**request))
        except Exception as error:
            reply({"error": repr(error)})
            peer.recover()

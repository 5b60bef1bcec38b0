"""However the tests end, the kernel takes all of a lab with them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.hosts.lab import ROOT, processes_in, wait_for

LAB = """
import json, signal
from tests.hosts.lab import Desk
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
desk = Desk()
desk.add_hosts([20, 21])[1].cut_dead()
print(json.dumps(sorted(desk.seen)), flush=True)
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_lab_ends_with_its_maker(number: signal.Signals) -> None:
    maker = subprocess.Popen(
        [sys.executable, "-c", LAB],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert maker.stdout is not None
    seen = set(json.loads(maker.stdout.readline()))
    assert processes_in(seen)
    maker.send_signal(number)
    maker.wait()
    wait_for(lambda: not processes_in(seen), "all of it has ended")

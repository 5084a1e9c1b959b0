"""The embedded LLM's own process: ``python -m finegrade.llm.embedded_child``.

It reads one JSON line from standard input (model, context, key), serves on a free loopback port, prints its address,
and then waits for the end of standard input: the other end of that pipe is held by the parent alone, so the parent's
end, kill -9 included, ends this process too.
"""

import json
import os
import signal
import threading


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def _first_line() -> bytes:
    """Reads byte by byte: a buffered read could swallow the end that the other thread waits for."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line


def main() -> None:
    """Serves until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = json.loads(_first_line())
    threading.Thread(target=_end_with_parent, daemon=True).start()  # before the load: it may take long
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.n_ctx = settings["context"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["api_key"]]
    params.cors_origins = "http://127.0.0.1"
    params.ui = False
    params.endpoint_slots = False
    params.n_parallel = 1
    params.verbosity = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    server = xllamacpp.Server(params)
    print(json.dumps({"address": server.listening_address}), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()

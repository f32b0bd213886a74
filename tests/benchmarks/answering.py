"""A worker's module for the tests: every name says what happens to it."""

import os
import time


def handle(request):
    for name in request["names"]:
        if name == "die":
            os._exit(3)
        if name == "hang":
            time.sleep(60)
        if name == "raise":
            raise RuntimeError("no such thing\nand more")
        print("noise that is no answer")
        yield {"name": name, "value": request["factor"] * len(name), **({"fatal": True} if name == "fatal" else {})}

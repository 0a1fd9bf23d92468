"""What the checks of the raw_* examples share: the same story, told with the calls of three systems."""

import re

from talk import limit, refuses, run


def check(at_home, home, call):
    """On its own system every request is answered, the last one first; on another the program names its own."""
    limit(120)
    code, out, err = run()
    assert code == 0 and not err, (code, out, err)
    if at_home:
        assert re.findall(r"request (\d) sent", out) == list("01234"), out
        assert re.findall(r'request (\d): "answer \1"', out) == list("43210"), out
        assert re.findall(r"request (\d): end of the stream", out) == list("43210"), out
        assert f"{call} returned" in out, out
    else:
        assert f" is for {home}" in out and "request" not in out, out
    refuses("nonsense")

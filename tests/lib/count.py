#!/usr/bin/python3
"""Print "passed failed skipped" of a meson test log or a JUnit file.

Nothing run at all, or a file that cannot be read, counts as one failure: a
runner that died must not look like success.
"""
import json
import sys
import xml.etree.ElementTree as ET


def meson(path):
    passed = failed = skipped = 0
    with open(path, encoding="utf-8") as f:
        for line in f:
            result = json.loads(line)["result"]
            if result in ("OK", "EXPECTEDFAIL"):
                passed += 1
            elif result == "SKIP":
                skipped += 1
            else:
                failed += 1
    return passed, failed, skipped


def junit(path):
    passed = failed = skipped = 0
    for case in ET.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def main():
    try:
        counts = {"meson": meson, "junit": junit}[sys.argv[1]](sys.argv[2])
    except (OSError, ValueError, KeyError, ET.ParseError):
        counts = (0, 1, 0)
    if sum(counts) == 0:
        counts = (0, 1, 0)
    print(*counts)


main()

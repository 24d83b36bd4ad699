"""The manual page says what the option table says."""
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def options():
    return re.findall(r'^\t\{"([a-z-]+)",\s*(?:0|\'.\'),', read("loader/cli_table.c"), re.M)


def commands():
    return re.findall(r'^\t\{"([a-z]+)", LD_CMD_', read("loader/cli_table.c"), re.M)


def missing(manual):
    text = manual.replace("\\-", "-")
    return [o for o in options() if not re.search(f"--{o}(?![a-z-])", text)] + \
        [c for c in commands() if not re.search(rf"^\.B {c}$", text, re.M)]


def test_manual_names_every_option_and_command():
    assert len(options()) > 20 and len(commands()) == len(set(commands())) > 3
    assert missing(read("loader/sluice.1")) == []


def test_manual_names_nothing_else():
    text = read("loader/sluice.1").replace("\\-", "-")
    found = set(re.findall(r"--([a-z-]+)", text)) - {"version"}
    assert found <= set(options())


def test_a_missing_option_is_noticed():
    assert "offline" in missing(read("loader/sluice.1").replace("offline", "x"))

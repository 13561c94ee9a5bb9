"""Fairpost's protocol in Python, from docs/protocol.md and proto/fairpost.cddl alone.

An example for implementers: read it beside those two. `python -m fairpost_example --help` shows the commands.
"""

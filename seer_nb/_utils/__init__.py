"""Leaf helpers without any domain; private."""

"""Mixing: what a node holds, delays, sends and makes up, so that nobody can tell who said what."""

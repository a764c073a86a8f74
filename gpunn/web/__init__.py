"""The page to draw on: served with a network behind it (the extra "web"), or as one file that holds the network."""

from gpunn.web.export import to_html
from gpunn.web.server import serve

__all__ = ["serve", "to_html"]
